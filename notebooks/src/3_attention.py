# %% imports
import torch

from vit_pipeline import ViTPipeline, teach

teach.speak(LANG)
pipe = ViTPipeline.from_pretrained("demo", device="cpu")  # or "vit-base"
cat = pipe.explain(root / "examples/cat.png")

# %% rows
A = torch.tensor(cat.attentions)
print(A.shape)  # (layers, heads, T, T), where T = N + 1: N patches and CLS
assert torch.allclose(A.sum(-1), torch.ones(A.shape[:-1]), atol=1e-5)

# %% heads
layers, heads = A.shape[:2]
rows, columns = cat.grid
places = [(layer, head) for head in range(heads) for layer in range(layers)]
maps = [cat.attention(layer, head) for layer, head in places]  # (rows, columns): CLS's row, without CLS
names = [f"{layer} · {head}" for layer, head in places]
print("max", *(f"{most:.2f}" for most in A[:, :, 0].amax((1, 2))), f" 1/T = {1 / A.shape[-1]:.3f}")
teach.tiles(maps, names, columns=layers, over=cat.image, size=1.3)

# %% token
eye = 1 + 3 * columns + 3  # CLS is token 0; row 3, column 3
maps = [cat.attention(layer, token=eye) for layer in range(layers)]
teach.tiles([cat.image, *maps], ["input", *range(layers)], columns=layers + 1, over=cat.image, size=1.3)

# %% rollout
maps = [cat.attention(), cat.rollout()]  # A of the last layer; the product of (A + I) / 2 over all layers
teach.tiles([cat.image, *maps], ["input", "attention", "rollout"], over=cat.image, size=1.8)

# %% residual
with torch.inference_mode():
    states = pipe.model(cat.pixel_values, output_hidden_states=True).hidden_states  # layers + 1 of (1, T, D)
print("layer  ‖added‖/‖before‖  cosine")
for layer in range(layers):
    before, after = states[layer : layer + 2]
    added = (after - before).norm(dim=-1) / before.norm(dim=-1)
    print(f"{layer:5} {added.mean():17.2f} {torch.cosine_similarity(before, after, dim=-1).mean():7.2f}")

# %% distance
distances = cat.attention_distance()  # (layers, heads), in pixels
teach.table(distances, range(layers), range(heads), y="layer", x="head")

# %% uniform
y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
centres = cat.patch[0] * torch.stack([y, x], dim=-1).flatten(0, 1).float()  # (N, 2)
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
def mine(q, k):  # (heads, T, d) both → (heads, T, T)
    return ...


teach.check("attention", mine)


# %% flow
def mine(attentions):  # (layers, T, T), the heads' mean → (N,)
    return ...


teach.check("rollout", mine)
