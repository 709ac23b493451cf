"""Every exercise of the course: what a learner's function is given, should return, and returns when wrong.

The inputs are small and random, with no two sizes alike, so that a wrong axis shows. Hints: ``teach.toml``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Random = Callable[..., Any]  #: sizes → a tensor


class Case(NamedTuple):
    """One exercise with its inputs."""

    inputs: tuple[Any, ...]
    right: Any
    wrong: dict[str, Any]  #: the hint → what a function returns that makes this mistake


# 0, the tutorial


def tokens(random: Random) -> Case:
    """Side of the image and of a patch, in pixels → tokens."""
    wrong = {"no-cls": 36, "one-side": 7, "pixels": 48 * 48 + 1, "channels": 3 * 36 + 1, "patch-area": 65}
    return Case((48, 8), 37, wrong)


def probability(random: Random) -> Case:
    """Logits (1, C) → the probability of the predicted class."""
    logits = 2 * random(1, 6)
    best, index = logits.max(-1)
    wrong = {"logit": best, "index": index, "each-alone": best.sigmoid(), "share": best / logits.sum()}
    wrong |= {"over-images": 1.0, "not-divided": best.exp(), "all": logits.softmax(-1)}
    return Case((logits,), logits.softmax(-1).max(), wrong)


# 1, patches and positions


def cut(random: Random) -> Case:
    """An image (3, H, W), the side of a patch → (N, 3·P·P), row by row."""
    image = random(3, 4, 6)
    grid = image.unfold(1, 2, 2).unfold(2, 2, 2)  # (3, rows, columns, P, P)

    def arranged(*axes: int) -> Any:
        return grid.permute(axes).reshape(6, 12)

    wrong = {"reshaped": image.reshape(6, 12), "not-permuted": grid.reshape(6, 12)}
    wrong |= {"by-columns": arranged(2, 1, 0, 3, 4), "channels-last": arranged(1, 2, 3, 4, 0)}
    wrong |= {"turned": arranged(1, 2, 0, 4, 3), "not-flat": grid.permute(1, 2, 0, 3, 4).reshape(6, 3, 2, 2)}
    return Case((image, 2), arranged(1, 2, 0, 3, 4), wrong)


def patch_matrix(random: Random) -> Case:
    """Flat patches (N, 3·P·P), the convolution → embeddings (N, D)."""
    from torch.nn import Conv2d, Parameter

    flat, convolution = random(5, 12), Conv2d(3, 7, 2, 2, device="meta")
    convolution.weight = Parameter(random(7, 3, 2, 2), requires_grad=False)
    convolution.bias = Parameter(random(7), requires_grad=False)
    matrix, bias = convolution.weight.flatten(1), convolution.bias
    right = flat @ matrix.T + bias
    wrong = {"no-bias": flat @ matrix.T, "reshaped": flat @ matrix.reshape(12, 7) + bias, "turned": right.T}
    return Case(
        (flat, convolution), right, wrong | {"one-patch": right[0], "mean": flat @ matrix.T / 12 + bias}
    )


def mirror(random: Random) -> Case:
    """Similarities (N, N), columns → the number of places that are most similar to the mirrored column."""
    import torch

    # 3 rows of 4; the most similar other place of each: mirrored in 5 cases, in the wrong row in 4 more, …
    best = torch.tensor([3, 2, 9, 8, 7, 7, 4, 5, 11, 6, 5, 8])
    similarity = 0.1 * random(12, 12)
    similarity[range(12), best], similarity[range(12), range(12)] = 0.8, 1.0
    wrong = {"itself": 0, "any-row": 9, "share": 5 / 12, "turned": 3, "neighbour": 2}
    return Case((similarity, 4), 5, wrong)


# 2, a ViT in sixty lines


def parameters(random: Random) -> Case:
    """D and the width of the MLP → the parameters of one layer."""
    width, hidden = 6, 20
    heads, mlp, norms = 4 * (width * width + width), 2 * width * hidden + hidden + width, 4 * width
    wrong = {"no-bias": 4 * width * width + 2 * width * hidden, "no-output": heads * 3 // 4 + mlp + norms}
    wrong |= {"no-norm": heads + mlp, "one-norm": heads + mlp + norms // 2}
    wrong |= {"one-linear": heads + width * hidden + hidden + norms}
    return Case((width, hidden), heads + mlp + norms, wrong)


def post_norm(random: Random) -> Case:
    """x (T, D), attention, mlp, two norms → the layer as it was before ViT: the norm after each sum."""
    x, a, b = random(5, 8), random(8, 8), random(8, 8)

    def attention(x: Any) -> Any:
        return x.flip(0) @ a

    def mlp(x: Any) -> Any:
        return (x @ b).tanh()

    def norm_1(x: Any) -> Any:
        return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)

    def norm_2(x: Any) -> Any:
        return 2 * norm_1(x) + 1

    after = norm_1(x + attention(x))
    before, inside = x + attention(norm_1(x)), x + norm_1(attention(x))
    bare = norm_1(attention(x))
    wrong = {"before": before + mlp(norm_2(before)), "inside": inside + norm_2(mlp(inside))}
    wrong |= {"no-residual": norm_2(mlp(bare)), "from-x": norm_2(x + mlp(after))}
    wrong |= {"same-norm": norm_1(after + mlp(after)), "one-norm": after + mlp(after)}
    return Case((x, attention, mlp, norm_1, norm_2), norm_2(after + mlp(after)), wrong)


# 3, attention


def attention(random: Random) -> Case:
    """Queries and keys (heads, T, d) → attention (heads, T, T)."""
    q, k = random(2, 5, 4), random(2, 5, 4)
    scores = q @ k.mT
    wrong = {
        "no-root": scores.softmax(-1),
        "no-square-root": (scores / 4).softmax(-1),
        "no-softmax": scores / 2,
    }
    wrong |= {"wrong-axis": (scores / 2).softmax(-2), "swapped": (scores.mT / 2).softmax(-1)}
    return Case((q, k), (scores / 2).softmax(-1), wrong)


def rollout(random: Random) -> Case:
    """Attention (L, T, T), T = N + 1 → what CLS has of each patch, (N,)."""
    import torch

    layers, one = (2 * random(3, 6, 6)).softmax(-1), torch.eye(6)
    first, second, third = (layers + one) / 2
    both = third @ second @ first
    wrong = {
        "no-residual": (layers[2] @ layers[1] @ layers[0])[0, 1:],
        "reversed": (first @ second @ third)[0, 1:],
    }
    wrong |= {"column": both[1:, 0], "sum": ((layers + one) / 2).mean(0)[0, 1:], "with-cls": both[0]}
    return Case((layers,), both[0, 1:], wrong | {"not-halved": 8 * both[0, 1:], "last": layers[-1, 0, 1:]})


# 4, what did it look at?


def occlusion(random: Random) -> Case:
    """A score of images (B, 3, H, W) → (B,), an image, gray, P → what graying each patch costs."""
    import torch

    weights, image, gray = random(3, 4, 6), random(1, 3, 4, 6), random(1, 3, 4, 6)

    def score(images: Any) -> Any:
        return (images * weights).sum((1, 2, 3)).tanh() + (images.abs() * weights**2).sum((1, 2, 3))

    def scores(start: Any, put: Any, *, keep: bool = False) -> Any:
        found, covered = [], start.clone()
        for top in range(0, 4, 2):
            for left in range(0, 6, 2):
                covered = covered if keep else start.clone()
                covered[..., top : top + 2, left : left + 2] = put[..., top : top + 2, left : left + 2]
                found.append(score(covered))
        return torch.stack(found).reshape(2, 3)

    whole, left = score(image), scores(image, gray)
    wrong = {
        "score": left,
        "sign": left - whole,
        "black": whole - scores(image, 0 * gray),
        "flat": (whole - left).ravel(),
    }
    wrong |= {"not-restored": whole - scores(image, gray, keep=True), "alone": scores(gray, image)}
    return Case((score, image, gray, 2), whole - left, wrong | {"turned": (whole - left).T})


def area(random: Random) -> Case:
    """A curve (S + 1,) → the area below it, its width being 1."""
    import torch

    curve = torch.tensor([0.9, 0.7, 0.35, 0.1, 0.05])
    right = torch.trapezoid(curve) / 4
    wrong = {"sum": curve.sum(), "mean": curve.mean(), "width": 4 * right, "above": 1 - right}
    return Case((curve,), right, wrong | {"left": curve[:-1].mean(), "right-ends": curve[1:].mean()})


# 5, train one from scratch


def smoothing(random: Random) -> Case:
    """Labels (B,), classes C, amount → targets (B, C): some of each label shared out among all classes."""
    import torch

    labels, amount = torch.tensor([2, 0, 1, 3, 0]), 0.2
    one_hot = torch.eye(4)[labels]
    wrong = {"one-hot": one_hot, "too-much": one_hot + amount / 4, "too-little": (1 - amount) * one_hot}
    wrong |= {"others-only": (1 - amount) * one_hot + amount / 3 * (1 - one_hot)}
    wrong |= {"swapped": amount * one_hot + (1 - amount) / 4, "each-whole": (1 - amount) * one_hot + amount}
    return Case((labels, 4, amount), (1 - amount) * one_hot + amount / 4, wrong)


def baseline(random: Random) -> Case:
    """Labels (B,) → the accuracy of always answering the most frequent class."""
    import torch

    labels = torch.tensor([3, 1, 4, 1, 5, 1, 4, 0, 1, 4])
    wrong = {"count": 4, "uniform": 1 / 5, "label": 1, "rarest": 0.1, "errors": 0.6}
    return Case((labels,), 0.4, wrong)


# 6, your own classes


def recall(random: Random) -> Case:
    """Counts (C, C), a row for each true class → the recall of each class, (C,)."""
    import torch

    counts = torch.tensor([[8.0, 1, 1], [2, 3, 0], [4, 0, 16]])
    hits = counts.diagonal()
    wrong = {"precision": hits / counts.sum(0), "accuracy": hits.sum() / counts.sum(), "count": hits}
    right = hits / counts.sum(1)
    return Case(
        (counts,), right, wrong | {"missed": 1 - right, "of-all": hits / counts.sum(), "mean": right.mean()}
    )


def confused(random: Random) -> Case:
    """Counts (C, C) → (true class, predicted class) of the most frequent mistake."""
    import torch

    counts = torch.tensor([[9, 1, 2], [4, 3, 0], [5, 0, 30]])
    wrong = {"diagonal": (2, 2), "swapped": (0, 2), "flat": 6, "count": 5, "share": (1, 0)}
    return Case((counts,), (2, 0), wrong)


#: name → what makes an exercise of random numbers
EXERCISES: dict[str, Callable[[Random], Case]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(tokens, probability),
        *(cut, patch_matrix, mirror),
        *(parameters, post_norm),
        *(attention, rollout),
        *(occlusion, area),
        *(smoothing, baseline),
        *(recall, confused),
    )
}
