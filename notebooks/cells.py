# The code cells of both notebooks, in percent format. `# %% name` starts a cell; [hidden] collapses it.
# prose_en.md and prose_zh.md say where each cell stands; build.py puts them together. LANG is set there.

# %% parameters
MODEL = "vit-base"
LANG = "en"

# %% install
import importlib.util
from pathlib import Path

needed = ("vit_pipeline", "torch", "transformers", "modelscope", "matplotlib")
missing = ", ".join(name for name in needed if importlib.util.find_spec(name) is None)
if missing:
    here = Path.cwd().resolve()
    clones = [folder for folder in (here, *here.parents) if (folder / "vit_pipeline" / "pipeline.py").is_file()]
    if not clones:  # on the package index, the name vit-pipeline is not ours: never install by that name

        class Missing(Exception):
            def _render_traceback_(self):
                return [str(self)]  # all that is shown; the cells below do not run

        raise Missing(
            f"缺少 {missing}，而这里不是本仓库的克隆，没有可供安装的东西。请克隆仓库，或者下载它的压缩包并解压，"
            '然后打开其中 notebooks/ 里的笔记本；也可以先执行 pip install "仓库路径[notebook]"。'
            if LANG == "zh"
            else f"{missing}: not installed, and this is no clone of the repository to install from. Clone it, or "
            "download it as an archive and unpack it, and open the notebook in its folder notebooks/; "
            'or first run pip install "PATH/TO/THE/CLONE[notebook]".'
        )
    constraints, package = clones[0] / "constraints.txt", f"{clones[0]}[notebook]"
    %pip install --quiet -c "{constraints}" "{package}"
    importlib.invalidate_caches()

# %% setup [hidden]
import io
import json
import math
import os
import warnings
from contextlib import contextmanager

warnings.filterwarnings("ignore", message="IProgress not found")  # a bar without widgets will do

import matplotlib.pyplot as plt
import numpy as np
import requests
import torch
from IPython.display import Markdown, display
from matplotlib import font_manager
from PIL import Image, ImageOps
from torch.nn import functional as F
from transformers import ViTForImageClassification, ViTImageProcessorPil
from transformers.utils import logging as transformers_logging

import vit_pipeline
from vit_pipeline import ViTPipeline, describe
from vit_pipeline.errors import DownloadError, ImageError

transformers_logging.disable_progress_bar()
os.environ.setdefault("VIT_PIPELINE_HUB_TIMEOUT", "10")  # seconds of silence, then the hub counts as away

def say(english, chinese):
    """The words in the notebook's language."""
    return chinese if LANG == "zh" else english

installed = {font.name for font in font_manager.fontManager.ttflist}
wanted = (
    "Noto Sans CJK SC, Noto Sans CJK JP, Source Han Sans SC, PingFang SC, Hiragino Sans GB, Microsoft YaHei, "
    "SimHei, WenQuanYi Micro Hei, WenQuanYi Zen Hei, Arial Unicode MS"
)
fonts = [font for font in wanted.split(", ") if font in installed]

def label(english, chinese):
    """The same in a figure, where Chinese needs a Chinese font: English without one."""
    return say(english, chinese) if fonts else english

plt.rcParams |= {
    "font.sans-serif": [*say([], fonts), "DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.dpi": 80,
    "savefig.bbox": "tight",
}

# %% load
lines = {}

def progress(file, done, total):
    """One line per file worth waiting for, rewritten as the file grows."""
    if 0 < total < 1e6:
        return
    text = {"text/plain": f"{file}  {done / 1e6:.1f} / {total / 1e6:.1f} MB"}
    if file in lines:
        lines[file].update(text, raw=True)
    else:
        lines[file] = display(text, raw=True, display_id=True)

try:
    pipe = ViTPipeline.from_pretrained(MODEL, progress=progress)
except DownloadError as error:
    reason = str(error)
    pipe = ViTPipeline.from_pretrained("demo")
    display(Markdown(say(
        f"> **Note: ModelScope did not deliver `{MODEL}`.** The notebook goes on with the embedded `demo` "
        f"model: small images, {len(pipe.labels)} classes, everything else the same. `print(reason)` says "
        "what went wrong.",
        f"> **提示：没能从 ModelScope 取到 `{MODEL}`。** 下面改用随包自带的 `demo` 模型：图更小，"
        f"只认 {len(pipe.labels)} 类，其余都一样。想知道原因，运行 `print(reason)`。",
    )))
pipe

# %% load_plain
folder = pipe.provenance.folder
if pipe.provenance.repo:  # snapshot_download is what fetched it; local_files_only: it is on this disk now
    from modelscope import snapshot_download

    folder = snapshot_download(pipe.provenance.repo, revision=pipe.provenance.revision, local_files_only=True)

if torch.cuda.is_available():
    device = torch.device("cuda")
elif torch.backends.mps.is_available():
    device = torch.device("mps")
else:
    device = torch.device("cpu")

if "model_type" in json.loads(Path(folder, "config.json").read_text(encoding="utf-8")):
    model = ViTForImageClassification.from_pretrained(folder).to(device).eval()
    processor = ViTImageProcessorPil.from_pretrained(folder)
else:  # timm's layout, which transformers cannot read: the library has renamed timm's keys
    model, processor = pipe.model, pipe.processor

assert device.type == pipe.device.type
assert all(torch.equal(a, b) for a, b in zip(model.parameters(), pipe.model.parameters(), strict=True))
config = model.config

# %% structure
structure = describe(pipe, lang=LANG)
print(structure)

# %% structure_plain
print(model)

# %% structure_count
parameters = sum(p.numel() for p in model.parameters())
unseen = model.vit.embeddings.cls_token.numel() + model.vit.embeddings.position_embeddings.numel()
assert structure.params == parameters
print(f"{parameters:,} = {parameters - unseen:,} + {unseen:,}")

# %% image
here = Path.cwd().resolve()
places = (here, *here.parents, Path(vit_pipeline.__file__).resolve().parent.parent)
examples = next((folder / "examples" for folder in places if (folder / "examples" / "cat.png").is_file()), None)
PHOTO = examples / "cat.png" if examples else "https://s3.amazonaws.com/images.cocodataset.org/val2017/000000039769.jpg"

image = pipe.read(PHOTO)
ImageOps.contain(image, (300, 300))

# %% image_plain
if str(PHOTO).startswith("https://"):
    response = requests.get(PHOTO, timeout=10)  # seconds; without it a silent server hangs the notebook
    response.raise_for_status()  # an error page is not an image
    data = response.content
else:
    data = Path(PHOTO).read_bytes()
plain_image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")  # upright, three channels

assert np.array_equal(np.asarray(plain_image), np.asarray(image))
print(plain_image.size, plain_image.mode)

# %% preprocess
pixel_values = pipe.preprocess(image)
print(pixel_values.shape)

# %% preprocess_plain
plain_values = processor(images=plain_image, return_tensors="pt").pixel_values.to(device)

assert torch.equal(plain_values, pixel_values)
print(f"{plain_values.min():.2f} … {plain_values.max():.2f}")

# %% sizes
P, D = config.patch_size, config.hidden_size
height, width = pixel_values.shape[-2:]
rows, columns = height // P, width // P
N = rows * columns
print(f"{height}×{width} px  →  {rows}×{columns} = {N} patches, {P}×{P} px  →  1 + {N} tokens, D = {D}")
print(f"→  L = {config.num_hidden_layers}, {config.num_attention_heads} heads  →  {config.num_labels} logits")

# %% seen
def as_image(pixel_values):
    """(1, 3, H, W), normalised → (H, W, 3), 0 to 1: the preprocessing undone."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (processor.image_mean, processor.image_std))
    return (pixel_values[0].cpu() * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()

def draw_grid(axes):
    for x in range(1, columns):
        axes.axvline(x * P - 0.5, color="white", linewidth=0.8)
    for y in range(1, rows):
        axes.axhline(y * P - 0.5, color="white", linewidth=0.8)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.imshow(ImageOps.contain(image, (360, 360)))
left.set(title=f"{label('the photo', '原图')}: {image.width} × {image.height}", xticks=[], yticks=[])
right.imshow(as_image(pixel_values))
draw_grid(right)
title = label("what the model sees, in patches", "模型看到的图，按图像块划分")
right.set(title=f"{title}: {width} × {height}", xticks=[], yticks=[])
plt.show()

# %% forward
logits = pipe.forward(pixel_values)
print(logits.shape)

# %% forward_plain
with torch.inference_mode():
    plain_logits = model(plain_values).logits

assert torch.equal(plain_logits, logits)
print(f"max |Δ logit| = {(plain_logits - logits).abs().max().item()}")

# %% forward_by_hand
vit = model.vit
with torch.inference_mode():
    patches = vit.embeddings.patch_embeddings(pixel_values)  # (1, N, D): Eq. 1, the E of each patch
    cls = vit.embeddings.cls_token  # (1, 1, D)
    tokens = torch.cat([cls, patches], dim=1)  # (1, 1 + N, D)
    tokens = tokens + vit.embeddings.position_embeddings
    for layer in vit.layers:  # Eq. 2 and 3
        tokens = layer(tokens)  # (1, 1 + N, D) again
    summary = vit.layernorm(tokens)[:, 0]  # (1, D): Eq. 4, the CLS token alone
    by_hand = model.classifier(summary)  # (1, C)

assert torch.equal(by_hand, logits)
assert torch.equal(summary.cpu().float(), pipe.features(image))
print(tokens.shape, summary.shape, by_hand.shape)

# %% predict
among = f"of {len(pipe.labels)} classes", f"共 {len(pipe.labels)} 类"  # what a probability is a share of
prediction = pipe.postprocess(logits)[0]
print(f"{prediction}  ({say(*among)})")
for entry in prediction.top:
    print(f"{entry.score:7.1%}  {entry.label}")

# %% predict_plain
index = plain_logits.argmax(-1).item()
probabilities = plain_logits.softmax(-1)[0]
print("Predicted class:", config.id2label[index])

assert config.id2label[index] == prediction.label
assert probabilities[index].item() == prediction.score

# %% one_line
assert pipe(PHOTO).top == prediction.top
print(pipe(PHOTO))

# %% top5
def short(name):
    """The first of a class's names: ImageNet's classes have several, with commas between them."""
    return name.split(",")[0]

def draw_top(axes, entries):
    names = [short(entry.label) for entry in reversed(entries)]
    bars = axes.barh(range(len(names)), [entry.score for entry in reversed(entries)], color="#3b7dd8")
    bars[-1].set_color("#d9534f")
    axes.bar_label(bars, fmt="{:.1%}", padding=4)
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1.15 * entries[0].score))
    axes.set_xlabel(f"{label('probability', '概率')} ({label(*among)})")
    axes.spines[["top", "right"]].set_visible(False)

figure, axes = plt.subplots(figsize=(6.5, 2.4), layout="constrained")
draw_top(axes, prediction.top)
plt.show()

# %% known
def show(*names):
    """Photos of examples/, each with its likeliest class."""
    if examples is None:
        print(say("Only a clone of the repository has these photos.", "这几张照片只有克隆的仓库里才有。"))
        return
    photos = [pipe.read(examples / name) for name in names]
    figure, row = plt.subplots(1, len(photos), figsize=(9, 2.7), layout="constrained")
    for axes, photo, answer in zip(row, photos, pipe(photos, top_k=1), strict=True):
        axes.imshow(ImageOps.contain(photo, (300, 300)))
        axes.set(title=f"{short(answer.label)} {answer.score:.1%}", xlabel=label(*among), xticks=[], yticks=[])
    plt.show()

show("airplane.jpg", "parrots.jpg", "boat.jpg")

# %% unknown
show("coffee.png", "rocket.jpg", "astronaut.png")

# %% filters
kernels = vit.embeddings.patch_embeddings.projection.weight.detach().cpu().float()  # (D, 3, P, P)
centred = kernels.flatten(1) - kernels.flatten(1).mean(0)  # (D, 3·P·P)
components = torch.linalg.svd(centred, full_matrices=False).Vh[:28].unflatten(1, (3, P, P))

figure, grid = plt.subplots(4, 7, figsize=(7, 4.3), layout="constrained")
title = label("principal components of the patch embedding's filters", "图像块嵌入卷积核的主成分")
figure.suptitle(f"{title}: {P} × {P} × 3", fontsize=10)
for axes, component in zip(grid.flat, components):
    strongest = component.flatten()[component.abs().argmax()]  # a component's sign means nothing: fix it
    axes.imshow((0.5 + component / strongest / 2).permute(1, 2, 0).clamp(0, 1), interpolation="nearest")
for axes in grid.flat:
    axes.axis("off")
plt.show()

# %% positions
positions = vit.embeddings.position_embeddings[0, 1:].detach().cpu().float()  # (N, D), without that of CLS
unit = F.normalize(positions, dim=-1)
similarity = (unit @ unit.T).reshape(rows, columns, rows, columns)  # [row, column] → a map of all patches
gap = max(1, rows // 6)
tiles = F.pad(similarity, (0, gap, 0, gap), value=math.nan)  # a gap beside and below each map
mosaic = tiles.permute(0, 2, 1, 3).reshape(rows * (rows + gap), columns * (columns + gap))[:-gap, :-gap]

figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
shown = axes.imshow(mosaic, interpolation="nearest", cmap="viridis")
axes.set(
    title=label("cosine similarity of position embeddings: one tile per patch", "位置嵌入的余弦相似度：每个图像块一小格"),
    xlabel=label("column of the patch", "图像块所在的列"),
    ylabel=label("row of the patch", "图像块所在的行"),
    xticks=[column * (columns + gap) + columns / 2 - 0.5 for column in range(columns)],
    yticks=[row * (rows + gap) + rows / 2 - 0.5 for row in range(rows)],
    xticklabels=range(1, columns + 1),
    yticklabels=range(1, rows + 1),
)
axes.tick_params(length=0)
axes.spines[:].set_visible(False)
figure.colorbar(shown, shrink=0.6)
plt.show()

# %% tools
def cut(pixels):
    """(B, 3, H, W) → (B, N, 3, P, P): the patches, row by row."""
    patches = pixels.unfold(2, P, P).unfold(3, P, P)  # (B, 3, rows, columns, P, P)
    return patches.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)

def glue(patches):
    """(B, N, 3, P, P) → (B, 3, H, W): `cut` undone."""
    patches = patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5)  # (B, 3, rows, P, columns, P)
    return patches.flatten(4, 5).flatten(2, 3)

@contextmanager
def without_positions():
    """The model with its position embeddings at zero; as it was on leaving."""
    table = pipe.model.vit.embeddings.position_embeddings
    kept = table.detach().clone()
    try:
        with torch.no_grad():
            table.zero_()
        yield
    finally:
        with torch.no_grad():
            table.copy_(kept)

@contextmanager
def first_layers(number):
    """The model with its first layers only; as it was on leaving."""
    kept = pipe.model.vit.layers
    pipe.model.vit.layers = kept[:number]
    try:
        yield
    finally:
        pipe.model.vit.layers = kept

def difference(a, b):
    return (a - b).abs().max().item()

def best(logits):
    entry = pipe.postprocess(logits, top_k=1)[0]
    return f"{short(entry.label)} {entry.score:.1%}"

def compare(a, b):
    print(f"  {best(a)}  →  {best(b)}  ({say(*among)})    max |Δ logit| = {difference(a, b):.3f}")

def check(guess, answer):
    print(say(f"Answer: {answer}.", f"答案：{answer}。"))
    if guess == answer:
        print(say("Your guess was right.", "你猜对了。"))
    elif guess is not None:
        print(say(f"Your guess was {guess}: worth a second thought.", f"你猜的是 {guess}，值得再想一想。"))

ROUNDING = 1e-3 * logits.std().item()  # below this, only the order of additions differed

assert torch.equal(glue(cut(pixel_values)), pixel_values)

# %% images
generator = torch.Generator().manual_seed(0)
order = torch.randperm(N, generator=generator)

shuffled = glue(cut(pixel_values)[:, order])
one_gray = cut(pixel_values).clone()
one_gray[:, N // 2 + columns // 2] = 0
one_gray = glue(one_gray)
upside_down = pixel_values.flip(2)

figure, row = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
versions = {
    label("the photo", "原图"): pixel_values,
    label("shuffled", "打乱"): shuffled,
    label("one patch gray", "涂灰一块"): one_gray,
    label("upside down", "上下颠倒"): upside_down,
}
for axes, (title, pixels) in zip(row, versions.items(), strict=True):
    axes.imshow(as_image(pixels))
    axes.set(title=title, xticks=[], yticks=[])
plt.show()

# %% shuffle_without
guess = None  # "a", "b" or "c"

with without_positions():
    before, after = pipe.forward(pixel_values), pipe.forward(shuffled)

compare(before, after)
assert difference(before, after) < ROUNDING
check(guess, "a")

# %% shuffle_with
guess = None  # "a", "b" or "c"

after = pipe.forward(shuffled)

compare(logits, after)
assert difference(logits, after) > ROUNDING
check(guess, "c")

# %% one_patch
guess = None  # "a", "b" or "c"

with torch.inference_mode():
    states = [pipe.model(x, output_hidden_states=True).hidden_states for x in (pixel_values, one_gray)]
changed = [((a - b).abs().amax(-1) > 0).sum().item() for a, b in zip(*states, strict=True)]

print(say("tokens that changed", "变了的 token"))
print(f"{changed[0]:5} / {N + 1}", say("before the first layer", "进入第一层之前"))
for number, count in enumerate(changed[1:], start=1):
    print(f"{count:5} / {N + 1}", say(f"after layer {number}", f"第 {number} 层之后"))
assert changed[0] == 1
assert min(changed[1:]) > (N + 1) / 2
check(guess, "c")

# %% upside_down
guess = None  # "a", "b" or "c"

in_rows = cut(pixel_values).unflatten(1, (rows, columns))
rows_reversed = glue(in_rows.flip(1).flatten(1, 2))  # each patch upright
with without_positions():
    blind = [pipe.forward(pixels) for pixels in (pixel_values, upside_down, rows_reversed)]
after = pipe.forward(upside_down)

print(say("upside down:", "上下颠倒："))
compare(logits, after)
print(say("upside down, position embeddings at zero:", "上下颠倒，位置嵌入清零："))
compare(blind[0], blind[1])
print(say("only the rows of patches reversed, position embeddings at zero:", "只颠倒各行图像块的顺序，位置嵌入清零："))
compare(blind[0], blind[2])
assert difference(logits, after) > ROUNDING
assert difference(blind[0], blind[1]) > ROUNDING
assert difference(blind[0], blind[2]) < ROUNDING
check(guess, "b")

# %% half_the_layers
guess = None  # "a", "b" or "c"

scores = []
for number in range(config.num_hidden_layers + 1):
    with first_layers(number):
        logits_then = pipe.forward(pixel_values)
    assert logits_then.shape == logits.shape
    scores.append(logits_then.softmax(-1)[0, prediction.index].item())
    if number == config.num_hidden_layers // 2:
        halved = logits_then

figure, axes = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
axes.bar(range(len(scores)), scores, color=["#3b7dd8"] * (len(scores) - 1) + ["#d9534f"])
axes.set(xlabel=label("layers kept", "保留的层数"), xticks=range(len(scores)))
axes.set_ylabel(f"{label('probability', '概率')}: {short(prediction.label)}\n({label(*among)})")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

compare(logits, halved)
assert difference(logits, halved) > ROUNDING
check(guess, "b")

# %% restored
assert torch.equal(pipe.forward(pixel_values), logits)

# %% your_turn_1
OTHER = "https://s3.amazonaws.com/images.cocodataset.org/val2017/000000039769.jpg"

# %% solution_1 [hidden]
# @title Solution 1
try:
    other = pipe.read(OTHER)
except ImageError as error:
    other = None
    print(say("This image could not be fetched. Is there a network?", "这张图没有取到。是不是没有网络？"))
if other is not None:
    display(ImageOps.contain(other, (300, 300)))
    print(say(*among))
    for entry in pipe(other).top:
        print(f"{entry.score:7.1%}  {entry.label}")

# %% your_turn_2
flat = cut(pixel_values).flatten(2)  # (1, N, 3·P·P)

# %% solution_2 [hidden]
# @title Solution 2
projection = vit.embeddings.patch_embeddings.projection  # Conv2d: kernel P, stride P
with torch.inference_mode():
    by_matrix = flat @ projection.weight.flatten(1).T + projection.bias  # (1, N, D)
    by_convolution = vit.embeddings.patch_embeddings(pixel_values)  # (1, N, D)

gap = (by_matrix - by_convolution).abs().max() / by_convolution.abs().max()
assert gap < 1e-2  # rounding: a GPU may compute convolutions in TF32
print(projection)
print(flat.shape, "@", projection.weight.flatten(1).T.shape, "→", by_matrix.shape)

# %% your_turn_3
layer = vit.layers[-1]
with torch.inference_mode():
    x = model(pixel_values, output_hidden_states=True).hidden_states[-2]  # what goes into the last layer
    x = layer.layernorm_before(x)  # (1, 1 + N, D)

# %% solution_3 [hidden]
# @title Solution 3
heads = config.num_attention_heads

def split(tokens):
    """(1, 1 + N, D) → (1, heads, 1 + N, D / heads)"""
    return tokens.unflatten(-1, (heads, D // heads)).transpose(1, 2)

attention = layer.attention
with torch.inference_mode():
    q, k, v = (split(project(x)) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(D // heads)).softmax(-1)  # (1, heads, 1 + N, 1 + N)
    by_hand = attention.o_proj((weights @ v).transpose(1, 2).flatten(2))  # (1, 1 + N, D)
    by_layer = attention(x)[0]

assert torch.allclose(by_hand, by_layer, atol=1e-3, rtol=1e-3)
assert torch.allclose(weights.sum(-1), torch.ones_like(weights[..., 0]), atol=1e-4)

figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.3), layout="constrained")
left.imshow(as_image(pixel_values))
right.imshow(weights[0, :, 0, 1:].mean(0).reshape(rows, columns).cpu(), cmap="magma", interpolation="nearest")
left.set(title=label("the photo", "原图"), xticks=[], yticks=[])
right.set(title=label("where CLS looks in the last layer", "最后一层里 CLS 在看哪里"), xticks=[], yticks=[])
plt.show()

# %% your_turn_4
side = math.ceil(max(rows, columns) / 8)  # a square of side × side patches at a time: at most 64 squares

# %% solution_4 [hidden]
# @title Solution 4
drop = np.zeros((rows, columns))
starts = range(0, columns, side)
for top in range(0, rows, side):
    covered = pixel_values.repeat(len(starts), 1, 1, 1)  # one row of squares in one batch
    for image, start in zip(covered, starts, strict=True):
        image[:, top * P : (top + side) * P, start * P : (start + side) * P] = 0  # mid-gray, normalised
    scores = pipe.forward(covered).softmax(-1)[:, prediction.index].tolist()
    for start, score in zip(starts, scores, strict=True):
        drop[top : top + side, start : start + side] = prediction.score - score

figure, axes = plt.subplots(figsize=(4.6, 3.6), layout="constrained")
axes.imshow(as_image(pixel_values).mean(-1), cmap="gray", extent=(0, columns, rows, 0))
limit = np.abs(drop).max()
heat = axes.imshow(drop, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.55, extent=(0, columns, rows, 0))
axes.set(title=label("probability lost when this part is gray", "这里涂灰后，概率下降多少"), xticks=[], yticks=[])
figure.colorbar(heat, shrink=0.8)
plt.show()
assert limit > 0
