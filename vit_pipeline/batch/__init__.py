"""Folders and lists of any size → JSONL, CSV or Parquet: resumable, nothing lost.

Start reading in ``folder`` (a run and how it resumes), then ``records`` (the file), ``tables``.
"""

from __future__ import annotations

from .folder import Summary, classify

__all__ = ["Summary", "classify"]
