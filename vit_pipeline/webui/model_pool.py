"""The models a server has loaded: the one it started with, and the few that its visitors used last.

Each visitor has a model in use of their own; loading one takes no other visitor's away, nor breaks a request
in flight, which holds on to its pipeline. Leaves out: what a visitor sees of it (``page``).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ModelNameError
from ..names import KNOWN_MODELS

if TYPE_CHECKING:
    from ..pipeline import ViTPipeline

Progress = Callable[[str, int, int], None]
KEPT = 3


class NotAllowed(ModelNameError):
    """A model that the owner of the server does not allow."""

    def __init__(self, name: str, allowed: str) -> None:
        super().__init__(f"{name}: not allowed on this server, whose owner allows {allowed}")
        self.allowed = allowed


@dataclass(frozen=True)
class Loaded:
    """A model in memory, and how long it took to get it there."""

    name: str
    pipe: ViTPipeline
    seconds: float


class ModelPool:
    """Loads the models that a server's owner allows, one at a time, and keeps the last few.

    Args:
        start: the model to begin with; always kept, always allowed.
        allowed: names and folders besides the short names; ``any`` allows everything.
        device, dtype, allow_private: as for ``ViTPipeline.from_pretrained``.

    Raises what ``ViTPipeline.from_pretrained`` raises for ``start``.
    """

    def __init__(
        self,
        start: str = "demo",
        allowed: Collection[str] = (),
        *,
        device: str = "auto",
        dtype: str = "float32",
        allow_private: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.open = "any" in allowed
        self.choices = tuple(dict.fromkeys([*KNOWN_MODELS, start, *(n for n in allowed if n != "any")]))
        self._device, self._dtype, self._allow_private = device, dtype, allow_private
        self._turn = threading.Lock()  # held while a model is being loaded
        self._table = threading.Lock()
        self._kept: OrderedDict[str, Loaded] = OrderedDict()
        self.start = self._load(start, progress)

    def find(self, name: str) -> Loaded | None:
        """The model, if it is in memory."""
        if name in ("", self.start.name):
            return self.start
        with self._table:
            if found := self._kept.get(name):
                self._kept.move_to_end(name)
            return found

    def load(self, name: str, progress: Progress | None = None) -> Loaded:
        """The model, loaded if it is not in memory; waits for its turn. Slow: for a thread of its own.

        Raises NotAllowed, a ModelNameError, and what ``ViTPipeline.from_pretrained`` raises.
        """
        self.check(name)
        with self._turn:
            if found := self.find(name):
                return found
            loaded = self._load(name, progress)
            with self._table:
                self._kept[name] = loaded
                while len(self._kept) > KEPT - 1:  # besides the first one
                    self._kept.popitem(last=False)
            return loaded

    def check(self, name: str) -> None:
        """Raise NotAllowed if this server's owner does not allow this model."""
        if not self.open and name not in self.choices:
            raise NotAllowed(name, ", ".join(self.choices))

    @property
    def busy(self) -> bool:
        """Whether a model is being loaded."""
        return self._turn.locked()

    def _load(self, name: str, progress: Progress | None) -> Loaded:
        # imported here, which takes seconds the first time, so that the time below is the model's own
        from transformers import ViTForImageClassification, ViTImageProcessorPil  # noqa: F401

        from ..pipeline import ViTPipeline

        began = time.perf_counter()
        pipe = ViTPipeline.from_pretrained(
            name,
            device=self._device,
            dtype=self._dtype,
            allow_private=self._allow_private,
            progress=progress,
        )
        return Loaded(name, pipe, time.perf_counter() - began)
