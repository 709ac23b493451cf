"""The explanations of :mod:`vit_pipeline.roles` in Chinese: role → (brief, whole sentence).

A brief is at most 31 columns wide: a table of 100 columns has no more room.
Written, not translated: the same facts as in English, in the words of a Chinese textbook.
"""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "model": (
        "输入图片，输出各类别的得分",
        "整个分类器：vit 把图片变成一串 token 并让它们交换信息，classifier 只看其中的 CLS token，给每个类"
        "别打分。",
    ),
    "backbone": (
        "不含分类头的 Transformer 主干",
        "Vision Transformer 的主干：嵌入、一叠编码器层、最后一次 LayerNorm；到这里为止还与类别无关。",
    ),
    "embeddings": (
        "把图片变成 token 序列",
        "把图片变成 Transformer 能读的序列：每个图像块一个 token，最前面放上 CLS token，再逐个加上位置嵌入。",
    ),
    "patch_embeddings": (
        "把图片切成小块并排成一行",
        "把图片切成互不重叠的小块，每块变成一个向量，再按从左到右、从上到下的顺序排成一行。",
    ),
    "projection": (
        "每块的像素 → 一个向量",
        "图像块投影 E：卷积的步长等于卷积核，所以它其实是对每个图像块的像素做同一个线性映射，得到一个向量。",
    ),
    "mask_token": (
        "代替被遮住的图像块",
        "一个学出来的向量，掩码预训练时用来顶替被遮住的图像块；做分类时用不到。",
    ),
    "cls_token": (
        "最前面放一个学出来的 token",
        "CLS token（x_class）：一个学出来的向量，对所有图片都一样，放在图像块之前；它逐层汇集信息，最后供"
        "分类头读取。",
    ),
    "position_embeddings": (
        "每个位置加上一个学出来的向量",
        "位置嵌入 E_pos：每个位置一个学出来的向量，加到对应的 token 上；没有它，模型分不清图像块原来在哪里。",
    ),
    "embedding_dropout": (
        "仅训练时随机置零",
        "嵌入之后的 Dropout：训练时随机把一部分值置零，防止过拟合；预测时原样通过。",
    ),
    "encoder": (
        "依次通过所有编码器层",
        "Transformer 编码器：让 token 依次通过每一层；transformers 5.9 起不再有这个模块。",
    ),
    "layers": (
        "编码器层的列表",
        "编码器层的列表：各层形状相同，权重各自独立；列表本身不做计算，其中的层被依次调用。",
    ),
    "layer": (
        "先注意力，再 MLP",
        "一个编码器层：先用注意力让 token 之间交换信息，再用 MLP 逐个加工；两步都先归一化自己的输入，再把"
        "结果加回去。",
    ),
    "layernorm_before": (
        "归一化注意力的输入",
        "Pre-LN：在进入注意力之前，把每个 token 归一化到均值 0、方差 1，再做缩放和平移；残差支路不经过它。",
    ),
    "attention": (
        "token 之间互相查看",
        "多头自注意力（MSA）：每个 token 按匹配程度从所有 token 收集信息；token 只有在这里才会互相交流。",
    ),
    "self_attention": (
        "查询、键、值及其运算",
        "注意力计算的主体，所有头并行；把各头混合起来由后面的模块负责。transformers 5.9 起并入 attention。",
    ),
    "query": (
        "查询：每个 token 在找什么",
        "计算每个 token 的查询 q：它想在别的 token 里找什么（附录 A，式 5）。",
    ),
    "key": (
        "键：凭什么被找到",
        "计算每个 token 的键 k：别的 token 的查询就是拿它来比对的（附录 A，式 5）。",
    ),
    "value": (
        "值：交出去的内容",
        "计算每个 token 的值 v：别的 token 关注它时，真正拿走的内容（附录 A，式 5）。",
    ),
    "split_heads": (
        "把 q、k、v 分给各个头",
        "把每个查询、键、值等分给各个头，让不同的头关注不同的东西；只改变形状，不做计算。",
    ),
    "attention_core": (
        "q 与 k 越合，v 的权重越大",
        "softmax(QKᵀ/√d)·V：每个查询与所有键比对，softmax 把匹配程度变成和为 1 的权重，据此对值加权平均，"
        "最后把各头拼接起来（附录 A，式 6、7）。",
    ),
    "attention_dropout": (
        "仅训练时随机丢弃权重",
        "作用在注意力权重上的 Dropout：训练时随机忽略一些 token；预测时不起作用。",
    ),
    "attention_output": (
        "混合各头的结果",
        "各头算完之后：一个线性映射把它们混合起来，再接 Dropout；残差相加不在这里，而在层里。",
    ),
    "attention_dense": (
        "把各头的结果混合成一个向量",
        "输出投影：把各个头找到的信息混合成每个 token 的一个向量（附录 A，式 8）。",
    ),
    "attention_output_dropout": (
        "仅训练时随机置零",
        "作用在注意力输出上的 Dropout，位于残差相加之前；只在训练时起作用。",
    ),
    "layer_dropout": (
        "仅训练时随机置零",
        "两次残差相加之前各用一次的 Dropout（注意力之后、MLP 之后）：同一个模块被调用两次，只在训练时起作"
        "用。",
    ),
    "residual_attention": (
        "加回这一层的输入",
        "第一次残差相加：这一层的输入加上注意力的结果；注意力只需学习“改变多少”。",
    ),
    "layernorm_after": (
        "归一化 MLP 的输入",
        "Pre-LN：在进入 MLP 之前对每个 token 做归一化；它位于注意力之后，而不是层的末尾，残差支路不经过它。",
    ),
    "mlp": (
        "逐个加工每个 token",
        "MLP：两个线性映射，中间夹一个激活函数，对每个 token 单独作用；注意力收集来的信息在这里消化。",
    ),
    "intermediate": (
        "MLP 的前半部分",
        "MLP 的前半部分：线性映射到更宽的空间，再过激活函数；transformers 5.9 起与后半部分合为 mlp。",
    ),
    "fc1": (
        "把每个 token 变宽",
        "MLP 的第一个线性映射：把每个 token 变宽（通常是四倍），给特征留出空间。",
    ),
    "activation": (
        "两个线性映射之间的非线性",
        "激活函数，论文用的是 GELU：放行大的值，压住小的值；没有它，前后两个线性映射就等于一个。",
    ),
    "output": (
        "MLP 的后半部分，含残差相加",
        "MLP 的后半部分：线性映射回模型宽度，再接 Dropout，残差相加也在里面完成；transformers 5.9 起与前"
        "半部分合为 mlp。",
    ),
    "fc2": (
        "变回原来的宽度",
        "MLP 的第二个线性映射：把每个 token 变回模型的宽度，这样才能与输入相加。",
    ),
    "mlp_dropout": (
        "仅训练时随机置零",
        "作用在 MLP 输出上的 Dropout，位于残差相加之前；只在训练时起作用。",
    ),
    "residual_mlp": (
        "加上 MLP 的结果",
        "第二次残差相加：进入 layernorm_after 之前的值，加上 MLP 的结果；这就是这一层的输出。",
    ),
    "final_layernorm": (
        "最后一次归一化",
        "最后一次 LayerNorm：Pre-LN 结构中最后一层的输出还没有归一化，读取之前在这里补上。",
    ),
    "pooler": (
        "CLS token → 池化向量",
        "池化层：取 CLS token，再过一个线性映射和 tanh；ViTForImageClassification 不用它。",
    ),
    "pooler_dense": (
        "对 CLS token 的线性映射",
        "池化层里对 CLS token 的线性映射。",
    ),
    "pooler_activation": (
        "压到 −1 到 1 之间",
        "池化层的激活函数，通常是 tanh，把每个值压到 −1 与 1 之间。",
    ),
    "take_cls": (
        "只留下 CLS token",
        "从序列中取出第一个 token，即 CLS：分类头只用它代表整张图片；图像块的 token 到此完成任务。",
    ),
    "classifier": (
        "给每个类别打一个分（logit）",
        "分类头：把 CLS token 线性映射成每个类别一个 logit；变成概率的 softmax 在模型之外。",
    ),
    "unknown": (
        "未知：不属于 ViT",
        "未知：本工具没有关于这个模块的规则，也不作猜测。",
    ),
}
