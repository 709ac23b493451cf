# %% imports
import copy

import numpy as np
import torch
from PIL import Image

from vit_pipeline import ViTPipeline, teach
from vit_pipeline.explain import METHODS, evaluate

teach.speak(LANG)
pipe = ViTPipeline.from_pretrained("demo", device="cpu")  # or "vit-base"
photo = root / "examples/cat.png"
cat = pipe.explain(photo)
print(cat.prediction, f"{cat.prediction.score:.1%}")

# %% lens
for layer, said in enumerate(cat.lens):  # 0: the embeddings, before any layer
    print(layer, f"{said.score:6.1%} {said.label}")

# %% maps
maps = [cat.heatmap(method).clip(0) for method in METHODS]
teach.tiles([cat.image, *maps], ["input", *METHODS], columns=3, over=cat.image, size=1.9)

# %% adds-up
gray = pipe.preprocess(Image.new("RGB", cat.image.size, "gray"))
logit, without = (pipe.forward(pixels)[0, cat.target.index].item() for pixels in (cat.pixel_values, gray))
print(f"{logit - without:.2f}  {cat.heatmap('integrated-gradients').sum():.2f}")

# %% deletion
tests = [cat.faithfulness(method) for method in ("occlusion", "gradient-attention", "attention")]
tests += [cat.yardstick("centre"), cat.yardstick("random")]
teach.lines({test.method: test.deletion for test in tests}, "deletion", x="steps", y="probability")

# %% insertion
teach.lines({test.method: test.insertion for test in tests}, "insertion", x="steps", y="probability")

# %% gain
names = ["cat.png", "airplane.jpg", "parrots.jpg", "boat.jpg"]
print(f"{'':20} gain          gain − centre")
for row in evaluate([pipe.explain(root / "examples" / name) for name in names], METHODS):
    print(f"{row.method:20}", *(f"{mean:+.2f} ± {half:.2f} " for mean, half in (row.gain, row.over_centre)))


# %% sanity
def scrambled(part, seed):
    """The explanation by a model that has random weights in one part, of the same class."""
    model = copy.deepcopy(pipe.model)
    torch.manual_seed(seed)
    for weight in part(model).parameters():
        if weight.dim() > 1:  # matrices; LayerNorm's scale is near 1, and near 0 it would switch a layer off
            torch.nn.init.normal_(weight, std=weight.std().item())
    return ViTPipeline(model, pipe.processor).explain(photo, target=cat.target.index)


parts = {
    "classifier": lambda model: model.classifier,
    "last layer": lambda model: model.vit.layers[-1],
    "all layers": lambda model: model.vit.layers,
}
for name, part in parts.items():
    others = [scrambled(part, seed) for seed in range(3)]
    print(f"{name:10}", end="")
    for method in METHODS:
        maps = [one.heatmap(method).ravel() for one in (cat, *others)]
        print(f"  {method} {np.corrcoef(maps)[0, 1:].mean():+.2f}", end="")
    print()


# %% occlusion
def mine(score, image, gray, P):  # score: (B, 3, H, W) → (B,); image, gray: (1, 3, H, W) → (rows, columns)
    return ...


teach.check("occlusion", mine)


# %% area
def mine(curve):  # (S + 1,)
    return ...


teach.check("area", mine)
