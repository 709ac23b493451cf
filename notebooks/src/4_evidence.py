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
for row in evaluate([pipe.explain(root / "examples" / name) for name in names], METHODS):
    print(f"{row.method:20} {row.gain[0]:+.2f} ± {row.gain[1]:.2f}")


# %% sanity
def scrambled(part):
    """The explanation by a model that has random numbers in one part, of the same class."""
    model = copy.deepcopy(pipe.model)
    torch.manual_seed(0)
    for parameter in part(model).parameters():
        torch.nn.init.normal_(parameter, std=parameter.std().item())
    return ViTPipeline(model, pipe.processor).explain(photo, target=cat.target.index)


parts = {
    "classifier": lambda model: model.classifier,
    "last layer": lambda model: model.vit.layers[-1],
    "all layers": lambda model: model.vit.layers,
}
for name, part in parts.items():
    other = scrambled(part)
    pairs = [(method, cat.heatmap(method), other.heatmap(method)) for method in METHODS]
    alike = {method: np.corrcoef(a.ravel(), b.ravel())[0, 1] for method, a, b in pairs}
    print(f"{name:12}", *(f"{method} {value:+.2f}  " for method, value in alike.items()))


# %% occlusion
def mine(score, image, gray, P):  # score: (B, 3, H, W) → (B,); image, gray: (1, 3, H, W) → (rows, columns)
    return ...


teach.check("occlusion", mine)


# %% area
def mine(curve):  # (S + 1,)
    return ...


teach.check("area", mine)
