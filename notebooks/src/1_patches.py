# %% imports
import torch
from torch.nn import functional as F

from vit_pipeline import ViTPipeline, teach

teach.speak(LANG)
pipe = ViTPipeline.from_pretrained("demo", device="cpu")  # or "vit-base"
model = pipe.model.requires_grad_(False)
embeddings, P, D = model.vit.embeddings, model.config.patch_size, model.config.hidden_size
print(f"{D = }")

# %% sequence
pixel_values = pipe.preprocess(pipe.read(root / "examples/cat.png"))  # (1, 3, H, W)
H, W = pixel_values.shape[2:]
patches = [pixel_values[0, :, y : y + P, x : x + P] for y in range(0, H, P) for x in range(0, W, P)]
rows, columns, N = H // P, W // P, len(patches)
print(f"{N} = {rows} × {columns}")
teach.tiles(patches, columns=columns, size=0.5, limits=(-1, 1))

# %% projection
projection = embeddings.patch_embeddings.projection
print(projection)
grid = projection(pixel_values)  # (1, D, rows, columns)
tokens = grid.flatten(2).mT  # (1, N, D): the grid read row by row
print(grid.shape, "→", tokens.shape)
assert torch.equal(tokens, embeddings.patch_embeddings(pixel_values))

# %% alone
other = pixel_values.clone()
other[..., :P, :P] = 0  # the first patch becomes gray
changed = (projection(other) != grid).any(1)  # (1, rows, columns)
print(changed.sum().item(), "/", N)

# %% filters
filters = projection.weight.flatten(1)  # (D, 3·P·P)
components = torch.linalg.svd(filters - filters.mean(0)).Vh[:24]
teach.tiles(components.unflatten(1, (3, P, P)))

# %% similarity
positions = embeddings.position_embeddings[0, 1:]  # (N, D), without that of CLS
unit = F.normalize(positions, dim=-1)
similarity = unit @ unit.T  # (N, N), cosines
teach.tiles(similarity.unflatten(1, (rows, columns)), columns=columns, size=0.62, limits=(-0.2, 1))

# %% columns
in_grid = similarity.reshape(rows, columns, rows, columns)
within_rows = in_grid.diagonal(dim1=0, dim2=2).mean(-1)  # (columns, columns)
teach.table(within_rows.numpy(), range(1, columns + 1), y="column", x="column")


# %% answer
def answer(tokens, positions, cls_position):  # (1, N, D), (N, D), (D,) → logits (1, C)
    x = torch.cat([embeddings.cls_token + cls_position, tokens + positions], dim=1)
    for layer in model.vit.layers:
        x = layer(x)
    return model.classifier(model.vit.layernorm(x)[:, 0])


def show(logits):
    best = pipe.postprocess(logits)[0]
    print(f"{best.label} {best.score:.1%}")


cls_position = embeddings.position_embeddings[0, 0]
with_all = answer(tokens, positions, cls_position)
show(with_all)

# %% without
without = answer(tokens, 0 * positions, cls_position)
show(without)

# %% without-any
show(answer(tokens, 0 * positions, 0 * cls_position))

# %% without-cls
show(answer(tokens, positions, 0 * cls_position))

# %% shuffled
order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
shuffled = answer(tokens[:, order], 0 * positions, cls_position)
print(f"max |Δ logit| = {(shuffled - without).abs().max():.0e}")

# %% shuffled-with
shuffled = answer(tokens[:, order], positions, cls_position)
show(shuffled)
print(f"max |Δ logit| = {(shuffled - with_all).abs().max():.1f}")


# %% cut
def mine(image, patch):  # (3, H, W), pixels → (N, 3·P·P)
    return ...


teach.check("cut", mine)


# %% patch-matrix
def mine(flat, projection):  # (N, 3·P·P), a Conv2d → (N, D)
    return ...


teach.check("patch-matrix", mine)


# %% mirror
def mine(similarity, columns):  # (N, N), columns of the grid → how many of the N
    return ...


teach.check("mirror", mine)
