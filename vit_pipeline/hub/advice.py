"""What went wrong between here and the hub, in one line; the words stand in ``advice.toml``.

The client's own messages, some in Chinese only and several lines long, stay in the chained cause.
"""

from __future__ import annotations

import errno
import ipaddress
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..names import KNOWN_MODELS
from .cache import cache_folder

if TYPE_CHECKING:
    from .client import Download

_WORDS = tomllib.loads((Path(__file__).parent / "advice.toml").read_text(encoding="utf-8"))
_DISK = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "full")
_DISK |= dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST), "read_only")


class Unreachable(ConnectionError):
    """There is no way to the hub; the text may say which way was tried."""


def in_the_open(url: str) -> bool:
    """Whether anyone on the way can read what is sent to ``url``."""
    parts = urlsplit(url)
    with suppress(ValueError):
        return parts.scheme == "http" and not ipaddress.ip_address(parts.hostname or "").is_loopback
    return parts.scheme == "http" and parts.hostname != "localhost"


def words(task: Download, what: str, **facts: Any) -> str:
    """The sentence ``what`` of ``advice.toml``."""
    facts |= {"task": task, "cache": cache_folder(task.cache_dir)}
    facts["hub"] = urlsplit(task.url).netloc.rpartition("@")[2]
    facts["files"] = f" for {task.file}" if task.file else ""
    facts["by_hand"] = _WORDS["by_hand"].format(**facts)
    text: str = _WORDS[what].format(**facts)
    return text


def explain(task: Download, error: Exception) -> tuple[str, dict[str, Any]]:
    """What the error means that ended the download: a sentence's name, and the facts for it."""
    if isinstance(error, ConnectionError) and not task.file:
        return "unreachable", {"way": error if isinstance(error, Unreachable) else ""}
    if isinstance(error, ImportError):
        return "no_client", {"error": error}
    for cause in (error, error.__cause__):
        if isinstance(cause, OSError) and (cause.errno in _DISK or cause.filename):
            return _DISK.get(cause.errno or 0, "file"), {"error": cause}

    from modelscope_hub import errors

    if isinstance(error, errors.APIError) and (status := error.status_code):
        denied = "denied_in_the_open" if in_the_open(task.url) else "denied"
        revision = f", or it has no branch or tag {task.revision!r}" if task.revision else ""
        known = [known.name for known in KNOWN_MODELS.values() if task.repo in known.same_as]
        other = f"--model {known[0]} is the same" if known else f"from Hugging Face: hf download {task.repo}"
        what = {401: denied, 403: denied, 404: "unknown", 429: "too_many"}.get(status, "status")
        return what, {"status": status, "revision": revision, "elsewhere": other}
    for kind, what in (
        (errors.FileIntegrityError, "integrity"),
        (errors.NetworkError, "broken"),
        (TypeError | AttributeError | KeyError | ValueError, "no_listing"),
    ):
        if isinstance(error, kind):
            return what, {}
    return "other", {"error": error}
