"""Every sentence of the WebUI, in English and in Chinese. Data, and the two functions that look it up.

The library's own error messages stay English; the page puts a sentence of its own, from here, above them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
HTML_LANG = {"en": "en", "zh": "zh-CN"}

TEXTS: dict[str, tuple[str, str]] = {
    # the frame
    "title": ("ViT pipeline", "ViT pipeline"),
    "tagline": (
        "Give it an image, get what a Vision Transformer sees, and look inside every step.",
        "给它一张图片，看看 Vision Transformer 认出了什么，再看看每一步里面发生了什么。",
    ),
    "other_language": ("中文", "English"),
    "switch_language": ("切换到中文", "Switch to English"),
    "in_use": ("Model in use", "当前模型"),
    "tab_classify": ("Classify", "图像分类"),
    "tab_model": ("Load model", "加载模型"),
    "tab_structure": ("Structure", "模型结构"),
    "tab_api": ("API", "API"),
    # classify
    "image": ("Image", "图片"),
    "drop_hint": (
        "Drop an image here\n- or -\npaste it, or click to choose one",
        "把图片拖到这里\n- 或 -\n粘贴，或点击选择",
    ),
    "url_label": ("… or the address of an image", "……或图片的网址"),
    "url_placeholder": ("https://…/cat.jpg", "https://…/cat.jpg"),
    "examples": ("Example photos", "示例图片"),
    "top_k": ("Classes to list", "列出的类别数"),
    "classify": ("Classify", "分类"),
    "several": ("Several images at once", "一次分类多张图片"),
    "files": ("Images (up to {limit})", "图片（最多 {limit} 张）"),
    "classify_all": ("Classify them all", "全部分类"),
    "no_result": (
        "The answer appears here: choose an image, paste one, or try an example photo.",
        "结果会显示在这里：选一张图片、粘贴一张，或者点一张示例图片。",
    ),
    "predicted": ("Predicted class", "预测类别"),
    "sure": ("{percent} sure", "把握 {percent}"),
    "by_model": ("by {model}", "由 {model} 给出"),
    "top_classes": ("The likeliest classes", "最可能的类别"),
    "given": ("The image as given", "原图"),
    "seen": ("As the model saw it", "模型看到的样子"),
    "seen_caption": (
        "{w}×{h} pixels, in {columns}×{rows} patches of {patch}×{patch}",
        "{w}×{h} 像素，切成 {columns}×{rows} 个 {patch}×{patch} 的图像块",
    ),
    "pixels": ("{w}×{h} pixels", "{w}×{h} 像素"),
    "times": ("Time spent in each step", "每一步用的时间"),
    "read": ("read", "读取"),
    "preprocess": ("preprocess", "预处理"),
    "forward": ("forward", "前向计算"),
    "postprocess": ("postprocess", "后处理"),
    "milliseconds": ("{ms} ms", "{ms} 毫秒"),
    "together": (
        "computed in one forward pass with {others} other waiting images",
        "与另外 {others} 张排队的图片在同一次前向计算中完成",
    ),
    "col_file": ("Image", "图片"),
    "col_class": ("Predicted class", "预测类别"),
    "col_score": ("Probability", "概率"),
    "col_model": ("Model", "模型"),
    "col_when": ("When", "时间"),
    "summary": ("{done} of {count} images classified", "共 {count} 张图片，已分类 {done} 张"),
    "download_csv": ("Download as CSV", "下载 CSV"),
    "history": ("History of this session", "本次会话的记录"),
    "history_empty": ("Nothing yet.", "还没有记录。"),
    "clear_history": ("Clear the history", "清空记录"),
    # load model
    "model_choice": ("Model", "模型"),
    "model_info": ("A short name from the list.", "从列表中选一个。"),
    "model_info_any": (
        "A short name, owner/name on ModelScope, or a folder on the server.",
        "可以用简称、ModelScope 上的 owner/name，或服务器上的文件夹。",
    ),
    "load": ("Load", "加载"),
    "loading": ("Loading {model} …", "正在加载 {model}……"),
    "waiting_turn": (
        "Another model is being loaded; {model} comes next.",
        "正在加载另一个模型，接下来就是 {model}。",
    ),
    "downloading": ("Downloading {file}", "正在下载 {file}"),
    "checking": ("Checking the files and building the model …", "正在校验文件并构建模型……"),
    "loaded": ("{model} is loaded and in use.", "{model} 已加载，现在就用它。"),
    "kept": ("{model} stays in use.", "仍然使用 {model}。"),
    "about_demo": (
        "ViT 32×32, trained on CIFAR-10; knows only 10 classes. Comes with the package, works offline.",
        "ViT 32×32，在 CIFAR-10 上训练，只认识 10 个类别；随软件包附带，离线可用。",
    ),
    "about_vit-base": (
        "ViT-B/16, 1000 ImageNet classes. About 350 MB from ModelScope.",
        "ViT-B/16，1000 个 ImageNet 类别；从 ModelScope 下载，约 350 MB。",
    ),
    "about_vit-small": (
        "ViT-S/16 augreg, 1000 ImageNet classes, timm's checkpoint. About 90 MB from ModelScope.",
        "ViT-S/16 augreg，1000 个 ImageNet 类别，timm 的权重；从 ModelScope 下载，约 90 MB。",
    ),
    "card_parameters": ("Parameters", "参数量"),
    "card_size": ("Size on disk", "磁盘占用"),
    "card_source": ("From", "来源"),
    "card_revision": ("Revision", "版本"),
    "card_device": ("Device", "设备"),
    "card_dtype": ("Number format", "数值类型"),
    "card_load_time": ("Load time", "加载用时"),
    "card_input": ("Input", "输入"),
    "card_classes": ("Classes", "类别"),
    "source_embedded": ("embedded in the package", "软件包内置"),
    "source_folder": ("a folder", "本地文件夹"),
    "none": ("–", "–"),
    "seconds": ("{s} s", "{s} 秒"),
    "class_list": ("All {count} classes", "全部 {count} 个类别"),
    # structure
    "structure_intro": (
        "Every module of the model in use, what it is for, what goes in and what comes out.",
        "当前模型的每一个模块：它做什么，输入是什么，输出是什么。",
    ),
    "order": ("Order", "顺序"),
    "order_module": ("as declared", "按定义的顺序"),
    "order_execution": ("as the data flows", "按数据流动的顺序"),
    "walk": ("Walk my last image through it", "让我刚才的图片走一遍"),
    "walk_info": (
        "Classify an image with {model} first; here is the structure without one.",
        "请先用 {model} 对一张图片做分类；下面是不带图片的结构。",
    ),
    "structure_wait": ("Drawing the structure …", "正在绘制模型结构……"),
    # api
    "api_intro": (
        "The same two functions from a program, in another process or on another machine:",
        "在另一个进程或另一台机器的程序里，也能调用同样的两个函数：",
    ),
    "api_install": (
        "Needs <code>pip install gradio_client</code>; nothing else of this project.",
        "只需要 <code>pip install gradio_client</code>，不需要本项目的其他部分。",
    ),
    "api_health": (
        "For a load balancer: <code>/health/live</code> says that the process answers, "
        "<code>/health/ready</code> that it takes work (503 while it drains).",
        "供负载均衡使用：<code>/health/live</code> 表示进程有响应，<code>/health/ready</code> "
        "表示可以接收请求（正在停机时返回 503）。",
    ),
    # what can go wrong
    "busy": (
        "The server is busy: too many requests are waiting already. Try again in a moment.",
        "服务器正忙：排队的请求太多了。请稍后再试。",
    ),
    "stopping": (
        "The server is about to stop. Try again in a minute.",
        "服务器即将停止，请过一分钟再试。",
    ),
    "no_image": ("Choose an image first, or give its address.", "请先选择一张图片，或填写图片的网址。"),
    "too_many": (
        "At most {limit} images at once; the rest were left out.",
        "一次最多 {limit} 张图片，其余的没有处理。",
    ),
    "bad_image": ("This image could not be read.", "这张图片无法读取。"),
    "bad_fetch": ("This address could not be fetched.", "这个网址无法获取。"),
    "bad_url": ("This address is not allowed.", "不允许访问这个网址。"),
    "bad_name": ("There is no such model here.", "这里没有这个模型。"),
    "not_allowed": (
        "The owner of this server allows: {allowed}. More with --allow-models.",
        "这台服务器允许使用：{allowed}。可用 --allow-models 增加。",
    ),
    "bad_download": ("The model could not be downloaded.", "模型下载失败。"),
    "bad_checkpoint": ("The model's files were refused.", "模型文件没有通过校验。"),
    "bad_device": ("The model does not run on this device.", "模型无法在这个设备上运行。"),
    "bad_other": ("That did not work.", "没有成功。"),
    "internal": (
        "Something went wrong inside the server; its log says what.",
        "服务器内部出错了，详情见服务器日志。",
    ),
}

#: What Gradio's own pieces say in English only, or by the name of a text that they lack in one language. One
#: that ends in a space is a beginning.
GRADIO_WORDS: dict[Language, dict[str, str]] = {
    "en": {"common.upload": "Upload", "common.complete": "Done"},
    "zh": {
        "common.upload": "上传",
        "common.complete": "完成",
        "Upload file": "上传文件",
        "File upload": "选择文件",
        "Capture from camera": "用摄像头拍照",
        "Paste from clipboard": "从剪贴板粘贴",
        "Click to Access Webcam": "点击打开摄像头",
        "grant webcam access": "允许使用摄像头",
        "capture photo": "拍照",
        "select input source": "选择摄像头",
        "select source": "选择摄像头",
        "Remove Image": "移除图片",
        "Remove this file": "移除这个文件",
        "Click to upload or drop files": "点击上传，或把文件拖到这里",
        "Empty value": "空",
        "More tabs": "更多标签页",
        "Clear": "清除",
        "Submit": "提交",
        "Dismiss": "关闭",
        "Close": "关闭",
        "Error": "错误",
        "number input for ": "数字输入：",
        "range slider for ": "滑块：",
    },
}


def texts(lang: Language) -> Callable[..., str]:
    """The look-up for one language: ``t = texts("zh"); t("busy", limit=32)``."""
    column = LANGUAGES.index(lang)

    def t(key: str, **values: object) -> str:
        text = TEXTS[key][column]
        return text.format(**values) if values else text

    return t


def preferred_language(accept_language: str) -> Language:
    """The first of a browser's Accept-Language that the page speaks; English where there is none."""
    wishes = []
    for place, part in enumerate(accept_language.split(",")[:20]):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            quality = 0.0
        wishes.append((-quality, place, tag.strip().lower()))
    for quality, _, tag in sorted(wishes):
        if quality < 0 and tag.split("-")[0] in ("en", "zh"):
            return "zh" if tag.startswith("zh") else "en"
    return "en"
