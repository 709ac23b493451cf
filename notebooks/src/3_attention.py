# %% imports
import torch

from vit_pipeline import ViTPipeline, teach

teach.speak(LANG)
pipe = ViTPipeline.from_pretrained("demo", device="cpu")  # or "vit-base"
cat = pipe.explain(root / "examples/cat.png")

# %% rows
A = torch.tensor(cat.attentions)
print(A.shape)  # (layers, heads, N, N)
assert torch.allclose(A.sum(-1), torch.ones(A.shape[:-1]), atol=1e-5)

# %% heads
layers, heads = A.shape[:2]
rows, columns = cat.grid
places = [(layer, head) for head in range(heads) for layer in range(layers)]
maps = [cat.attention(layer, head) for layer, head in places]
names = [f"{layer} · {head}" for layer, head in places]
teach.tiles(maps, names, columns=layers, over=cat.image, size=1.3)

# %% token
eye = 1 + 3 * columns + 3  # CLS is token 0; row 3, column 3
maps = [cat.attention(layer, token=eye) for layer in range(layers)]
teach.tiles([cat.image, *maps], ["input", *range(layers)], columns=layers + 1, over=cat.image, size=1.3)

# %% rollout
maps = [cat.attention(), cat.rollout()]
teach.tiles([cat.image, *maps], ["input", "attention", "rollout"], over=cat.image, size=1.8)

# %% distance
distances = cat.attention_distance()  # (layers, heads), in pixels
teach.table(distances, range(layers), range(heads), y="layer", x="head")

# %% uniform
y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
centres = cat.patch[0] * torch.stack([y, x], dim=-1).flatten(0, 1).float()  # (N - 1, 2)
print(f"{torch.cdist(centres, centres).mean():.1f}")

# %% any-class
dog = pipe.explain(root / "examples/cat.png", target="dog")
assert (dog.attention() == cat.attention()).all()
assert (dog.rollout() == cat.rollout()).all()
print(f"{cat.target.label} {cat.target.score:.1%}, {dog.target.label} {dog.target.score:.1%}")

# %% centre
for photo in ["cat.png", "airplane.jpg", "parrots.jpg", "boat.jpg"]:
    e = pipe.explain(root / "examples" / photo)
    named = [e.faithfulness(name) for name in ("attention", "rollout")]
    named += [e.yardstick(name) for name in ("centre", "random")]
    print(f"{photo:12}", *(f"{one.method} {one.gain:+.2f}  " for one in named))


# %% attention
def mine(q, k):  # (heads, N, d) both → (heads, N, N)
    return ...


teach.check("attention", mine)


# %% flow
def mine(attentions):  # (layers, N, N), the heads' mean → (N - 1,)
    return ...


teach.check("rollout", mine)
