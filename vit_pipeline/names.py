"""What a model name means: a short name, a ModelScope repository, or a folder; never two of them.

Leaves out what is there: whether the repository exists or the folder holds a model is for ``loading``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .catalog import DEFAULT_MODEL, IMAGENET_LABELS, KNOWN_MODELS, KnownModel
from .errors import ModelNameError

__all__ = ["DEFAULT_MODEL", "IMAGENET_LABELS", "KNOWN_MODELS", "KnownModel", "ModelName", "parse_name"]

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")


@dataclass(frozen=True)
class ModelName:
    """Just one of ``repo`` and ``folder`` is set; ``known`` where a short name was used."""

    text: str
    repo: str | None = None
    folder: Path | None = None
    revision: str | None = None
    known: KnownModel | None = None


def parse_name(name: str | Path, revision: str | None = None) -> ModelName:
    """What ``name`` means. Raises ModelNameError if it means nothing, or two things.

    A ``Path``, and a string that starts with ``.``, ``/`` or ``~``, is a folder; ``vit-base``, ``vit-small``
    and ``demo`` are short names; ``owner/name`` is a ModelScope repository, ``owner/name@revision`` pins it.
    """
    if isinstance(name, Path):
        return _folder(name, str(name), revision)
    if not isinstance(name, str) or not name.strip():
        raise ModelNameError(f"model name {name!r} is empty or not text; {_known()}")
    if name.startswith((".", "/", "~", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return _folder(Path(name).expanduser(), name, revision)

    base, _, pinned = name.partition("@")
    if "@" in name and (revision is not None or not pinned):
        raise ModelNameError(f"{name}: give the revision once, as {base}@REVISION or as revision=…")
    revision = revision if revision is not None else (pinned or None)
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ModelNameError(f"{name}: {revision!r} is not a branch or tag name")

    known = KNOWN_MODELS.get(base)
    is_repo = known is not None or (bool(_REPO.fullmatch(base)) and ".." not in base)
    here = Path(name)
    if is_repo and (here / "config.json").is_file():
        other = _other_way(base, known)
        raise ModelNameError(f"{name} is a folder here and {other[0]} too; say ./{name} or {other[1]}")
    if known is not None and known.folder is not None:
        if revision not in (None, "embedded"):
            raise ModelNameError(f"{name}: the embedded model has no revisions; leave {revision!r} out")
        return ModelName(name, folder=known.folder, known=known)
    if is_repo:
        return ModelName(name, repo=known.repo if known else base, revision=revision, known=known)
    if here.is_dir():
        return _folder(here, name, revision)
    raise ModelNameError(f"{name}: no such folder, and not a model name; {_known()}")


def _other_way(base: str, known: KnownModel | None) -> tuple[str, str]:
    if known is None:
        return "a ModelScope repository", f"{base}@master"
    return "a short name", known.repo or f"{base}@embedded"


def _folder(folder: Path, text: str, revision: str | None) -> ModelName:
    if revision is not None:
        raise ModelNameError(f"{text}: a folder has no revisions; leave {revision!r} out")
    if not folder.is_dir():
        raise ModelNameError(f"{text}: no such folder; {_known()}")
    return ModelName(text, folder=folder)


def _known() -> str:
    return f"use {', '.join(KNOWN_MODELS)}, owner/name of a ModelScope repository, or ./folder"
