"""Checks say what is wrong with a wrong answer, in both languages, and never with a right one."""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vit_pipeline import teach
from vit_pipeline.errors import ArgumentError
from vit_pipeline.teach.figures import TEXT

ROOT = Path(__file__).parents[2]
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.py"))
ARITIES = {name: case(torch.randn).inputs for name, case in teach.EXERCISES.items()}


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    yield
    teach.speak("en")


def cover(score: Any, image: Any, gray: Any, P: int, *, keep: bool = False, sign: int = 1) -> Any:
    found, covered = [], image.clone()
    for y, x in itertools.product(range(0, image.shape[2], P), range(0, image.shape[3], P)):
        covered = covered if keep else image.clone()
        covered[:, :, y : y + P, x : x + P] = gray[:, :, y : y + P, x : x + P]
        found.append(sign * (score(image) - score(covered)))
    return torch.cat(found).reshape(image.shape[2] // P, -1)


def rolled(layers: Any, *, one: float = 0.5, residual: bool = True) -> Any:
    mixed = torch.eye(layers.shape[-1])
    for layer in layers:
        mixed = (layer + torch.eye(len(layer)) if residual else 2 * layer) * one @ mixed
    return mixed


def unrolled(image: Any, P: int) -> Any:
    return image.unfold(1, P, P).unfold(2, P, P)


def parts(D: int, M: int) -> tuple[int, int, int]:
    return 4 * D * D + 4 * D, 2 * D * M + D + M, 4 * D


def best(similarity: Any) -> Any:
    return (similarity - 2 * torch.eye(len(similarity))).argmax(1)


def at(similarity: Any, columns: int) -> tuple[Any, Any]:
    place = torch.arange(len(similarity))
    return place // columns, place % columns


# exercise → hint → an answer as a learner writes it
BANK: dict[str, dict[str, Callable[..., Any]]] = {
    "tokens": {
        "no-cls": lambda side, P: (side / P) ** 2,
        "one-side": lambda side, P: side // P + 1,
        "pixels": lambda side, P: side * side + 1,
        "channels": lambda side, P: 3 * (side // P) ** 2 + 1,
        "patch-area": lambda side, P: P**2 + 1,
    },
    "probability": {
        "logit": lambda logits: logits.max().item(),
        "index": lambda logits: logits.argmax(-1).item(),
        "each-alone": lambda logits: torch.sigmoid(logits).max(),
        "share": lambda logits: logits.max() / logits.sum(),
        "over-images": lambda logits: logits.softmax(0).max(),
        "not-divided": lambda logits: logits.exp().max(),
        "all": lambda logits: logits.softmax(1),
    },
    "cut": {
        "reshaped": lambda image, P: image.reshape(-1, 3 * P * P),
        "not-permuted": lambda image, P: unrolled(image, P).reshape(-1, 3 * P * P),
        "by-columns": lambda image, P: unrolled(image, P).permute(2, 1, 0, 3, 4).reshape(-1, 3 * P * P),
        "channels-last": lambda image, P: unrolled(image, P).permute(1, 2, 3, 4, 0).reshape(-1, 3 * P * P),
        "turned": lambda image, P: unrolled(image, P).permute(1, 2, 0, 4, 3).reshape(-1, 3 * P * P),
        "not-flat": lambda image, P: unrolled(image, P).permute(1, 2, 0, 3, 4).flatten(0, 1),
    },
    "patch-matrix": {
        "no-bias": lambda flat, p: flat @ p.weight.flatten(1).T,
        "raises": lambda flat, p: flat @ p.weight.flatten(1) + p.bias,
        "reshaped": lambda flat, p: flat @ p.weight.reshape(12, -1) + p.bias,
        "turned": lambda flat, p: p.weight.flatten(1) @ flat.T + p.bias[:, None],
        "one-patch": lambda flat, p: p.weight.flatten(1) @ flat[0] + p.bias,
        "mean": lambda flat, p: (flat[:, None] * p.weight.flatten(1)).mean(-1) + p.bias,
    },
    "mirror": {
        "itself": lambda s, c: (s.argmax(1) == at(s, c)[0] * c + c - 1 - at(s, c)[1]).sum(),
        "any-row": lambda s, c: sum(best(s) % c == c - 1 - at(s, c)[1]),
        "share": lambda s, c: (best(s) == at(s, c)[0] * c + c - 1 - at(s, c)[1]).float().mean(),
        "turned": lambda s, c: (best(s) == len(s) - 1 - torch.arange(len(s))).sum().item(),
        "neighbour": lambda s, c: (best(s) == at(s, c)[0] * c + c - at(s, c)[1]).sum(),
    },
    "parameters": {
        "no-bias": lambda D, M: 4 * D * D + 2 * D * M,
        "no-output": lambda D, M: 3 * (D * D + D) + parts(D, M)[1] + 4 * D,
        "no-norm": lambda D, M: sum(parts(D, M)[:2]),
        "one-norm": lambda D, M: sum(parts(D, M)) - 2 * D,
        "one-linear": lambda D, M: parts(D, M)[0] + D * M + M + 4 * D,
    },
    "post-norm": {
        "before": lambda x, a, m, n1, n2: (y := x + a(n1(x))) + m(n2(y)),
        "inside": lambda x, a, m, n1, n2: (y := x + n1(a(x))) + n2(m(y)),
        "no-residual": lambda x, a, m, n1, n2: n2(m(n1(a(x)))),
        "from-x": lambda x, a, m, n1, n2: n2(x + m(n1(x + a(x)))),
        "same-norm": lambda x, a, m, n1, n2: n1((y := n1(x + a(x))) + m(y)),
        "one-norm": lambda x, a, m, n1, n2: (y := n1(x + a(x))) + m(y),
    },
    "attention": {
        "no-root": lambda q, k: (q @ k.mT).softmax(-1),
        "no-square-root": lambda q, k: (q @ k.mT / q.shape[-1]).softmax(-1),
        "no-softmax": lambda q, k: q @ k.mT / q.shape[-1] ** 0.5,
        "wrong-axis": lambda q, k: (q @ k.mT / q.shape[-1] ** 0.5).softmax(1),
        "swapped": lambda q, k: (k @ q.mT / q.shape[-1] ** 0.5).softmax(-1),
        "raises": lambda q, k: (q @ k / 2).softmax(-1),
    },
    "rollout": {
        "no-residual": lambda A: rolled(A, residual=False)[0, 1:],
        "not-halved": lambda A: rolled(A, one=1)[0, 1:],
        "reversed": lambda A: rolled(A.flip(0))[0, 1:],
        "column": lambda A: rolled(A)[1:, 0],
        "sum": lambda A: (A.mean(0)[0] / 2)[1:],
        "with-cls": lambda A: rolled(A)[0],
        "last": lambda A: A[-1][0][1:],
    },
    "occlusion": {
        "score": lambda score, x, gray, P: score(x) - cover(score, x, gray, P),
        "sign": lambda score, x, gray, P: cover(score, x, gray, P, sign=-1),
        "black": lambda score, x, gray, P: cover(score, x, torch.zeros_like(x), P),
        "not-restored": lambda score, x, gray, P: cover(score, x, gray, P, keep=True),
        "alone": lambda score, x, gray, P: score(gray) - cover(score, gray, x, P),
        "flat": lambda score, x, gray, P: cover(score, x, gray, P).flatten().tolist(),
        "turned": lambda score, x, gray, P: cover(score, x, gray, P).T,
    },
    "area": {
        "sum": lambda curve: curve.sum(),
        "mean": lambda curve: curve.mean(),
        "width": lambda curve: ((curve[1:] + curve[:-1]) / 2).sum(),
        "above": lambda curve: 1 - ((curve[1:] + curve[:-1]) / 2).mean(),
        "left": lambda curve: sum(curve[:-1]) / (len(curve) - 1),
        "right-ends": lambda curve: curve[1:].mean().item(),
    },
    "smoothing": {
        "one-hot": lambda labels, C, amount: torch.nn.functional.one_hot(labels, C),
        "too-much": lambda labels, C, amount: torch.eye(C)[labels] + amount / C,
        "too-little": lambda labels, C, amount: torch.eye(C)[labels] * (1 - amount),
        "others-only": lambda labels, C, amount: torch.where(
            torch.eye(C)[labels] > 0, 1 - amount, amount / (C - 1)
        ),
        "swapped": lambda labels, C, amount: torch.eye(C)[labels] * amount + (1 - amount) / C,
        "each-whole": lambda labels, C, amount: torch.eye(C)[labels] * (1 - amount) + amount,
    },
    "baseline": {
        "count": lambda labels: labels.bincount().max(),
        "uniform": lambda labels: 1 / len(labels.unique()),
        "label": lambda labels: labels.mode().values.item(),
        "rarest": lambda labels: labels.unique(return_counts=True)[1].min() / len(labels),
        "errors": lambda labels: 1 - labels.bincount().max() / len(labels),
    },
    "recall": {
        "precision": lambda counts: counts.diagonal() / counts.sum(0),
        "accuracy": lambda counts: counts.trace() / counts.sum(),
        "count": lambda counts: counts.diag(),
        "missed": lambda counts: 1 - counts.diag() / counts.sum(1),
        "of-all": lambda counts: counts.diag() / counts.sum(),
        "mean": lambda counts: (counts.diag() / counts.sum(1)).mean(),
    },
    "confused": {
        "diagonal": lambda counts: divmod(counts.argmax().item(), len(counts)),
        "swapped": lambda counts: divmod((counts - 99 * torch.eye(len(counts))).argmax().item(), 3)[::-1],
        "flat": lambda counts: (counts - 99 * torch.eye(len(counts))).argmax(),
        "count": lambda counts: (counts - 99 * torch.eye(len(counts))).max(),
        "share": lambda counts: divmod((counts / counts.sum(1, True) - torch.eye(3)).argmax().item(), 3),
    },
}


def test_every_exercise_has_at_least_five_wrong_answers_with_hints_of_their_own() -> None:
    assert list(BANK) == list(teach.EXERCISES)
    for name, answers in BANK.items():
        assert len(answers) >= 5, name
        assert set(answers) == set(TEXT["hints"][name]), name
        for place in (0, 1):
            hints = [pair[place] for pair in TEXT["hints"][name].values()]
            assert len(set(hints)) == len(hints)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name, of in BANK.items() for hint in of])
def test_a_wrong_answer_gets_its_own_hint(name: str, hint: str, lang: Any) -> None:
    teach.speak(lang)
    verdict = teach.check(name, BANK[name][hint])
    assert (verdict.right, verdict.hint) == (False, hint)
    chinese = any("\u4e00" <= letter <= "\u9fff" for letter in repr(verdict))
    assert chinese == (lang == "zh")
    assert "{" not in verdict.text


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_are_right(path: Path) -> None:
    found = runpy.run_path(str(path))
    names = [name for name in teach.EXERCISES if name.replace("-", "_") in found]
    assert len(names) >= 2
    assert {teach.check(name, found[name.replace("-", "_")]).text for name in names} == {"Right."}


def test_every_exercise_has_a_solution_and_stands_in_a_notebook() -> None:
    solved = [name for path in SOLUTIONS for name in teach.EXERCISES if f'"{name}"' in path.read_text()]
    assert solved == list(teach.EXERCISES)


@pytest.mark.parametrize("name", teach.EXERCISES)
@pytest.mark.parametrize(
    ("answer", "right", "hint"),
    [
        (..., None, "open"),
        (None, None, "open"),
        (lambda *given: ..., None, "open"),
        (197, False, "no-function"),
        (lambda *given: "cat", False, "type"),
        (lambda *given: {}["x"], False, "raises"),
        (lambda *given: torch.zeros(2, 3, 4, 5, 6), False, "shape"),
    ],
)
def test_no_answer_and_odd_ones(name: str, answer: Any, right: bool | None, hint: str) -> None:
    verdict = teach.check(name, answer)
    assert (verdict.right, verdict.hint) == (right, hint)


def test_a_wrong_number_of_the_right_shape() -> None:
    assert teach.check("area", lambda curve: 0.123).hint == "other"
    assert repr(teach.check("area", ...)) == "… Not answered yet."


def test_what_a_learner_does_to_the_inputs_does_not_change_the_check() -> None:
    def halved(curve: Any) -> Any:
        curve /= 2
        return (curve[1:] + curve[:-1]).mean()

    assert teach.check("area", halved).right is True
    assert teach.check("area", halved).right is True


def test_hints_do_not_say_the_answer() -> None:
    for name, hints in TEXT["hints"].items():
        for pair in hints.values():
            assert len(pair) == 2
            assert not any(word in pair[0] for word in ("softmax(", ".T", "flip(", "argmax(")), name


def test_unknown_exercise() -> None:
    with pytest.raises(ArgumentError, match="patch-matrix"):
        teach.check("patches", ...)


def test_words_are_pairs() -> None:
    assert {len(pair) for pair in TEXT["words"].values()} == {2}


@pytest.mark.usefixtures("chinese_font")
def test_figures() -> None:
    teach.speak("zh")
    pixels = [torch.randn(3, 4, 4), torch.rand(2, 2)]
    figure = teach.tiles(pixels, ["input", "cat"], columns=1)
    assert [axes.get_title() for axes in figure.axes] == ["输入", "cat"]
    assert figure._repr_png_().startswith(b"\x89PNG")
    figure = teach.lines({"loss": [2.0, 1.0]}, x="epoch")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "轮次"
    assert [*axes.lines[0].get_ydata()] == [2.0, 1.0]
    teach.speak("en")
    (axes,) = teach.table(torch.tensor([[3, 1], [0, 4]]), ["a", "b"], y="truth").axes
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "4"]
    assert axes.get_ylabel() == "true class"
