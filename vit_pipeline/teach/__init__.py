"""Checks that know the learner's answer, and figures; for the course, and for teachers' own notebooks.

::

    __init__.py    check(): right, not answered yet, or what went wrong     ← open this first
    exercises.py   the dictionary of exercises: what a function gets, should return, and typically returns
    figures.py     tiles, lines, table; speak() chooses the language
    teach.toml     hints and words, in English and Chinese

>>> check("confused", lambda counts: (2, 0))
✓ Right.

Leaves out the notebooks themselves, and figures of one explanation (``explain``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import ArgumentError
from .exercises import EXERCISES
from .figures import TEXT, lines, said, speak, table, tiles


@dataclass(frozen=True)
class Verdict:
    """What :func:`check` has found out. A notebook shows its text."""

    right: bool | None  #: None: not answered yet
    hint: str  #: the name of the hint in ``teach.toml``
    text: str

    def __repr__(self) -> str:
        sign = "…" if self.right is None else "✓" if self.right else "✗"
        return f"{sign} {self.text}"


def check(name: str, mine: Any) -> Verdict:
    """Say whether an answer is right, and if it is not, what probably went wrong.

    Args:
        name: an exercise, a key of ``EXERCISES``.
        mine: the learner's function, which is called with small random inputs. ``...`` is no answer yet.

    Raises ArgumentError for a name that is no exercise.
    """
    import torch

    if name not in EXERCISES:
        raise ArgumentError(f"there is no exercise {name!r}; use {', '.join(EXERCISES)}")

    def verdict(right: bool | None, hint: str, *values: object) -> Verdict:
        pair = TEXT["hints"][name].get(hint) or TEXT["hints"]["any"][hint]
        return Verdict(right, hint, said(pair).format(*values))

    if mine is ... or mine is None:
        return verdict(None, "open")
    if not callable(mine):
        return verdict(False, "no-function", type(mine).__name__)
    case = EXERCISES[name](partial(torch.randn, generator=torch.Generator().manual_seed(1)))
    try:
        given = mine(*(one.clone() if isinstance(one, torch.Tensor) else one for one in case.inputs))
    except Exception as error:  # the learner's code may raise anything
        return verdict(False, "raises", type(error).__name__, error)
    if given is ... or given is None:
        return verdict(None, "open")

    def numbers(value: Any) -> torch.Tensor:  # one number is one number, whatever its shape
        found = torch.as_tensor(value).detach().double()
        return found.squeeze() if found.numel() == 1 else found

    def same(other: Any) -> bool:
        other = numbers(other)
        return value.shape == other.shape and torch.allclose(value, other, rtol=1e-4, atol=1e-5)

    try:
        value, wanted = numbers(given), numbers(case.right)
    except (TypeError, ValueError, RuntimeError):
        return verdict(False, "type", type(given).__name__)
    if same(wanted):
        return verdict(True, "right")
    if hint := next((hint for hint, other in case.wrong.items() if same(other)), ""):
        return verdict(False, hint)
    if value.shape != wanted.shape:
        return verdict(False, "shape", tuple(value.shape), tuple(wanted.shape))
    return verdict(False, "other")


__all__ = ["EXERCISES", "Verdict", "check", "lines", "speak", "table", "tiles"]
