"""What the server remembers of each visitor: the model in use, the last answer, the history. All bounded.

Kept in memory only, and gone when the server stops.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ..pipeline import Prediction

MAX_SESSIONS = 100
MAX_HISTORY = 30


@dataclass(frozen=True)
class Shown:
    """An answer as the page shows it, in any language."""

    prediction: Prediction
    seconds: dict[str, float]
    batch: int
    given: str  #: the image as given, made small, as a ``data:`` URL
    given_size: tuple[int, int]  #: width, height
    seen: str  #: as the model saw it, as a ``data:`` URL
    seen_size: tuple[int, int]
    patch: int  #: side of a patch; 0 where the model does not say
    when: float = field(default_factory=time.time)


@dataclass
class Session:
    """One visitor."""

    model: str = ""  #: the model in use; empty: the one that the server started with
    last: Shown | None = None
    #: what a model saw last, (1, 3, H, W), and that model's name: for the walk through the structure
    seen: tuple[str, torch.Tensor | None] = ("", None)
    history: deque[Shown] = field(default_factory=lambda: deque(maxlen=MAX_HISTORY))


class Sessions:
    """Sessions by key; the one that was not used for longest makes room for a new one."""

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def get(self, key: str) -> Session:
        """The session of this key, made if there is none."""
        with self._lock:
            session = self._sessions.setdefault(key, Session())
            self._sessions.move_to_end(key)
            while len(self._sessions) > self._limit:
                self._sessions.popitem(last=False)
            return session

    def __len__(self) -> int:
        return len(self._sessions)
