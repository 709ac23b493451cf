"""Folders and lists of any size → JSONL, CSV or Parquet: fast, resumable, nothing lost.

Start reading in ``folder`` (a run and how it goes on), then ``streaming`` (images in, predictions out),
``records`` (the file). Loaded on first use: checking a command's arguments needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .folder import Summary as Summary
    from .folder import classify_folder as classify_folder
    from .streaming import stream as stream

_WHERE = {"Summary": "folder", "classify_folder": "folder", "stream": "streaming"}
__all__ = ["Summary", "classify_folder", "stream"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
