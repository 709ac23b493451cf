"""What a model name means: a short name, a repository, or a folder; never two of them.

Leaves out what is there: whether the repository exists or the folder holds a model is for ``loading``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from .errors import ModelNameError

DEFAULT_MODEL = "vit-base"
DATA_FOLDER = Path(__file__).parent
#: ImageNet-1k class names, one a line, in the order of the classes, as vit-base has them
IMAGENET_LABELS = DATA_FOLDER / "imagenet1k_labels.txt"
#: their WordNet synsets, in the same order
IMAGENET_SYNSETS = DATA_FOLDER / "imagenet1k_synsets.txt"

_PATH = r"[./~\\]|[A-Za-z]:[\\/]"  # how one begins
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # of a path: no leading dot, so nothing leads out of a cache
_REPO = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(rf"{_PART}(/{_PART})*")
#: a model's page, or a page of one of its files
_PAGE = re.compile(
    rf"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.(?:cn|ai)/models)/({_PART}/{_PART})"
    rf"(?:/(?:summary|files|(?:tree|blob|resolve|file/view)/({_PART})(?:/[^?#]*)?)?)?/?(?:[?#].*)?"
)
_TIMM = re.compile(r"(?:test_)?(?:vit|deit3?)_[a-z0-9_]+(\.[a-z0-9_]+)?")
#: a file of a checkpoint means its folder; of the last ones loading says what they are
_FILES = tuple(".json .safetensors .bin .pth .pt .ckpt .npz .h5 .onnx .gguf .msgpack".split())


@dataclass(frozen=True)
class KnownModel:
    """A model with a short name; ``models.toml`` says what the fields mean."""

    name: str
    summary: str
    config: Path
    repo: str | None = None
    folder: Path | None = None
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    same_as: tuple[str, ...] = ()
    preprocessing: str = ""
    top1: float | None = None
    top1_on: str = ""
    top1_source: str = ""
    licence: str = "apache-2.0"


_PATHS = ("config", "folder")
KNOWN_MODELS = {
    name: KnownModel(name, **{k: DATA_FOLDER / v if k in _PATHS else v for k, v in entry.items()})
    for name, entry in tomllib.loads((DATA_FOLDER / "models.toml").read_text(encoding="utf-8")).items()
}


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

    A ``Path``, and a string that starts with ``.``, ``/`` or ``~``, is a folder, or a file in it;
    ``vit-base``, ``vit-small`` and ``demo`` are short names; ``owner/name`` is a repository,
    ``owner/name@revision`` a branch or tag of it, and so is its page on modelscope.cn or huggingface.co;
    ``vit_small_patch16_224.augreg_in21k_ft_in1k``, timm's name of one checkpoint, is ``timm/…``.
    """
    if isinstance(name, Path):
        return _folder(name, str(name), revision)
    if not isinstance(name, str) or not name.strip():
        raise ModelNameError(f"model name {name!r} is empty or not text; {_known()}")
    here, page = Path(name).expanduser(), _PAGE.fullmatch(name)
    if re.match(_PATH, name) or (name.endswith(_FILES) and not page):
        return _folder(here, name, revision)
    if "://" in name and not page:
        raise ModelNameError(f"{name}: not a model's page on modelscope.cn or huggingface.co; {_known()}")

    base, at, pinned = (page[1], page[2], page[2]) if page else name.partition("@")
    if at and (revision is not None or not pinned):
        raise ModelNameError(f"{name}: give the revision once, as {base}@REVISION or as revision=…")
    if page and pinned in ("main", "master"):  # the default of either hub
        pinned = None
    known, timm = KNOWN_MODELS.get(base), _TIMM.fullmatch(base)
    repo = known.repo if known else f"timm/{base}" if timm and timm[1] else base
    revision = revision if revision is not None else pinned or (known.revision if known else None)
    is_repo = _REPO.fullmatch(repo or "") is not None
    if (known or is_repo) and not page and (here / "config.json").is_file():
        other = f"{base}@embedded" if not repo else f"{base}@master" if repo == base else repo
        raise ModelNameError(f"{name} is a folder here and a model's name too; say ./{name} or {other}")
    if known and known.folder:
        return _folder(known.folder, name, None if revision == "embedded" else revision, known)
    if here.is_file():
        raise ModelNameError(f"{name}: is a file, not a model; {_known()}")
    if is_repo and repo:
        check_repo(repo, revision)
        return ModelName(name, repo=repo, revision=revision, known=known)
    if timm and not here.is_dir():
        ways = [k.name for k in KNOWN_MODELS.values() if f"timm/{base}." in f"{k.repo} {k.same_as}"]
        tag = "fb_in1k" if "deit" in base else "augreg_in21k_ft_in1k"
        ways.append(f"timm/{base}.TAG with a tag of timm's such as {tag}")
        raise ModelNameError(f"{name}: timm has several models of that name; say {', or '.join(ways)}")
    return _folder(here, name, revision)


def check_repo(repo: str, revision: str | None) -> None:
    """Raises ModelNameError unless both can be names on a hub; they become parts of paths."""
    if not _REPO.fullmatch(repo):
        raise ModelNameError(f"{repo!r} is not a model on ModelScope; write owner/name")
    if revision is not None and not _REVISION.fullmatch(revision):
        raise ModelNameError(f"{repo}: {revision!r} is not a branch or tag name")


def _folder(path: Path, text: str, revision: str | None, known: KnownModel | None = None) -> ModelName:
    if path.name.endswith(_FILES) and path.is_file():
        path = path.parent
    if not path.is_dir():
        near = get_close_matches(text.lower(), KNOWN_MODELS, 1)
        hint = f"did you mean {near[0]}? Or " if near else ""
        what = "no such folder" if re.match(_PATH, text) else "no such folder, nor a model's name"
        raise ModelNameError(f"{text}: {what}; {hint}{_known()}")
    if revision is not None:
        raise ModelNameError(f"{text}: a folder has no revisions; leave {revision!r} out")
    return ModelName(text, folder=path, known=known)


def _known() -> str:
    return f"use {', '.join(KNOWN_MODELS)}, owner/name of a repository, or ./folder"
