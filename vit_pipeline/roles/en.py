"""The explanations of :mod:`vit_pipeline.roles` in English: role → (brief, whole sentence).

A brief is at most 31 columns wide: a table of 100 columns has no more room.
Equations of the appendix are those of Dosovitskiy et al. 2021, Appendix A.
"""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "model": (
        "image in, class scores out",
        "The whole classifier: vit turns an image into tokens that exchange information, and classifier "
        "reads one of them, the CLS token, and scores every class.",
    ),
    "backbone": (
        "the Transformer, without a head",
        "The Vision Transformer itself: embeddings, a stack of encoder layers and a last LayerNorm; it "
        "knows nothing of the classes yet.",
    ),
    "embeddings": (
        "image → sequence of tokens",
        "Turns the image into the sequence that a Transformer reads: one token for each patch, the CLS "
        "token in front, and a position embedding added to each.",
    ),
    "patch_embeddings": (
        "cuts the image into patches",
        "Cuts the image into patches that do not overlap, and lays their vectors out in a row, line by "
        "line as one reads.",
    ),
    "projection": (
        "pixels of a patch → one vector",
        "The patch projection E: a convolution whose stride equals its kernel, which is one and the same "
        "linear map from the pixels of each patch to a vector.",
    ),
    "mask_token": (
        "stands in for hidden patches",
        "A learnt vector that takes the place of patches hidden during masked pre-training; a classifier "
        "never uses it.",
    ),
    "cls_token": (
        "puts a learnt token in front",
        "The CLS token x_class: a learnt vector, the same for every image, put in front of the patches; "
        "layer by layer it gathers what the head will read.",
    ),
    "position_embeddings": (
        "adds a learnt vector per place",
        "The position embeddings E_pos: one learnt vector for each place, added to its token; without "
        "them the model could not tell where a patch was.",
    ),
    "embedding_dropout": (
        "zeroes values, only in training",
        "Dropout on the embeddings: sets values to zero at random while training, against overfitting; "
        "passes everything through unchanged when predicting.",
    ),
    "encoder": (
        "all encoder layers, one by one",
        "The Transformer encoder: passes the tokens through its layers one after the other; transformers "
        "≥ 5.9 has no module for it.",
    ),
    "layers": (
        "the stack of encoder layers",
        "The list of encoder layers: same shape, weights of their own; a list computes nothing, the "
        "layers in it are called one after the other.",
    ),
    "layer": (
        "attention, then MLP",
        "One encoder layer: attention lets the tokens exchange information, the MLP then works on each of "
        "them; each normalises its input first and adds its result to it.",
    ),
    "layernorm_before": (
        "normalises attention's input",
        "Pre-LN: brings each token to mean 0 and variance 1, then scales and shifts it, before attention "
        "reads it; the residual path goes around it.",
    ),
    "attention": (
        "tokens look at one another",
        "Multi-head self-attention (MSA): each token collects information from all tokens, weighted by "
        "how well they match; the only place where tokens meet.",
    ),
    "self_attention": (
        "query, key, value and their use",
        "The attention computation proper, all heads side by side; mixing the heads is left to the module "
        "after it. In transformers ≥ 5.9 it is part of attention.",
    ),
    "query": (
        "query: what a token looks for",
        "Computes the query q of each token: what it looks for in the others (Appendix A, Eq. 5).",
    ),
    "key": (
        "key: what it can be found by",
        "Computes the key k of each token: what it is matched by when another token's query looks for it "
        "(Appendix A, Eq. 5).",
    ),
    "value": (
        "value: what it passes on",
        "Computes the value v of each token: what it hands over to the tokens that attend to it (Appendix "
        "A, Eq. 5).",
    ),
    "split_heads": (
        "each head takes its share",
        "Cuts each query, key and value into equal pieces, one for each head, so that every head can "
        "attend to something else; only a change of shape, no arithmetic.",
    ),
    "attention_core": (
        "averages v by how q fits k",
        "softmax(QKᵀ/√d)·V: each query is compared with every key, softmax turns the fits into weights "
        "that sum to 1, and the values are averaged with them; then the heads are joined (Appendix A, Eq. "
        "6, 7).",
    ),
    "attention_dropout": (
        "zeroes weights in training only",
        "Dropout on the attention weights: ignores tokens at random while training; does nothing when "
        "predicting.",
    ),
    "attention_output": (
        "mixes the heads",
        "What comes after the heads: a linear map that mixes them, and dropout; the residual is added "
        "outside, in the layer.",
    ),
    "attention_dense": (
        "mixes the heads into one vector",
        "The output projection: mixes what the heads found into one vector for each token (Appendix A, "
        "Eq. 8).",
    ),
    "attention_output_dropout": (
        "zeroes values, only in training",
        "Dropout on what attention returns, before the residual addition: active only in training.",
    ),
    "layer_dropout": (
        "zeroes values, only in training",
        "Dropout before each of the two residual additions, after attention and after the MLP: one module "
        "that is called twice, active only in training.",
    ),
    "residual_attention": (
        "adds the layer's input back",
        "The first residual addition: the layer's input plus what attention found; attention only has to "
        "learn what to change.",
    ),
    "layernorm_after": (
        "normalises the MLP's input",
        "Pre-LN: normalises each token before the MLP reads it; it stands after attention, not at the end "
        "of the layer, and the residual path goes around it.",
    ),
    "mlp": (
        "works on each token by itself",
        "The MLP: two linear maps with an activation between them, applied to each token by itself; here "
        "the layer digests what attention collected.",
    ),
    "intermediate": (
        "first half of the MLP",
        "The first half of the MLP: a linear map to the wider space, and the activation; transformers ≥ "
        "5.9 has one module, mlp, for both halves.",
    ),
    "fc1": (
        "widens each token",
        "The first linear map of the MLP: widens each token, usually four times, to make room for features.",
    ),
    "activation": (
        "the bend between linear maps",
        "The activation, GELU in the paper: lets large values through and holds small ones back; without "
        "it the two linear maps would be one.",
    ),
    "output": (
        "second half of the MLP",
        "The second half of the MLP: a linear map back to the model's width and dropout; the residual "
        "addition happens inside. transformers ≥ 5.9 has one module, mlp, for both halves.",
    ),
    "fc2": (
        "narrows it back",
        "The second linear map of the MLP: brings each token back to the width of the model, so that it "
        "can be added to what came in.",
    ),
    "mlp_dropout": (
        "zeroes values, only in training",
        "Dropout on what the MLP returns, before the residual addition: active only in training.",
    ),
    "residual_mlp": (
        "adds the MLP's result",
        "The second residual addition: what went into layernorm_after plus what the MLP made of it; this "
        "is the layer's output.",
    ),
    "final_layernorm": (
        "the last normalisation",
        "The last LayerNorm: normalises the output of the last layer, which no layer has done (pre-LN), "
        "before the head reads it.",
    ),
    "pooler": (
        "CLS token → pooled vector",
        "The pooler: takes the CLS token through one more linear map and tanh; ViTForImageClassification "
        "does without it.",
    ),
    "pooler_dense": (
        "a linear map of the CLS token",
        "The pooler's linear map of the CLS token.",
    ),
    "pooler_activation": (
        "squashes it to −1 … 1",
        "The pooler's activation, usually tanh, which keeps every value between −1 and 1.",
    ),
    "take_cls": (
        "only the CLS token goes on",
        "Takes the first token, CLS, out of the sequence: it alone represents the image for the head; "
        "the patch tokens have done their work.",
    ),
    "classifier": (
        "one score (logit) per class",
        "The head: a linear map from the CLS token to one logit for each class; softmax makes "
        "probabilities of them, outside of the model.",
    ),
    "unknown": (
        "unknown: not part of a ViT",
        "Unknown: no rule of this package knows this module, and it does not guess.",
    ),
}
