"""What went wrong between here and the hub, in one line: what happened, and what to do about it.

The client's own messages, some in Chinese only and several lines long, stay in the chained cause.
"""

from __future__ import annotations

import errno
import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import DownloadError
from ..names import KNOWN_MODELS
from .cache import CONFIG, PREPROCESSOR, WEIGHTS, cache_folder

if TYPE_CHECKING:
    from .client import Download


class Unreachable(ConnectionError):
    """There is no way to the hub; the text may say which way was tried."""


def in_the_open(url: str) -> bool:
    """Whether anyone on the way can read what is sent to ``url``."""
    parts = urlsplit(url)
    with suppress(ValueError):
        return parts.scheme == "http" and not ipaddress.ip_address(parts.hostname or "").is_loopback
    return parts.scheme == "http" and parts.hostname != "localhost"


def by_hand(task: Download) -> str:
    """How to do without the hub."""
    return f"or put {CONFIG}, {PREPROCESSOR} and {WEIGHTS} into {task.folder}"


def silent(task: Download, seconds: float) -> str:
    """Nothing was heard for as long as the caller is willing to wait."""
    if task.doing == "connecting":
        return explain(task, Unreachable())
    if task.doing == "waiting":
        end = "end that process, or try again later"
        return f"another process has been downloading it without progress for {seconds:g} s; {end}"
    what = f"{urlsplit(task.url).hostname} sent nothing for {seconds:g} s{task.note}"
    return f"{what}; try again, what has arrived is kept, or allow more seconds with VIT_PIPELINE_HUB_TIMEOUT"


def explain(task: Download, error: Exception) -> str:
    """What the error means that ended the download."""
    hub = urlsplit(task.url).netloc.rpartition("@")[2]
    files = f" for {task.file}" if task.file else ""
    if isinstance(error, DownloadError):
        return str(error)
    if isinstance(error, ConnectionError) and not task.file:
        way = error if isinstance(error, Unreachable) else ""
        return (
            f"{hub} cannot be reached{way}; check the network, MODELSCOPE_ENDPOINT and proxies "
            f"(HTTPS_PROXY, NO_PROXY); without a network: --model demo, --model ./folder, {by_hand(task)}"
        )
    if isinstance(error, ImportError):
        return f"the package modelscope-hub cannot be imported ({error}); pip install modelscope"
    for cause in (error, error.__cause__):
        if isinstance(cause, OSError) and (text := _about_disk(cause, task)):
            return text

    from modelscope_hub import errors

    if isinstance(error, errors.FileIntegrityError):
        what = "size" if isinstance(error, errors.FileSizeMismatchError) else "SHA-256"
        return (
            f"what {hub} sent{files} does not have the {what} that it lists, and was not kept; try again "
            "later, or tell the repository's owner"
        )
    if isinstance(error, errors.APIError) and error.status_code:
        return _about_status(error.status_code, hub, files, task)
    if isinstance(error, errors.NetworkError):
        return f"the connection to {hub} broke{files}; try again, what has arrived is kept"
    if isinstance(error, TypeError | AttributeError | KeyError | ValueError):
        return f"{hub} answered with no file listing; is MODELSCOPE_ENDPOINT a ModelScope server?"
    return f"the download failed{files}: {type(error).__name__}: {error}"


def _about_disk(error: OSError, task: Download) -> str:
    cache = cache_folder(task.cache_dir)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left in {cache}; make room, or point MODELSCOPE_CACHE to a larger disk"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return f"{cache} cannot be written; point MODELSCOPE_CACHE to a folder that can"
    return f"{error.filename} cannot be used: {error.strerror}" if error.filename else ""


def _about_status(status: int, hub: str, files: str, task: Download) -> str:
    if status == 404:
        revision = f", or it has no branch or tag {task.revision!r}" if task.revision else ""
        known = [known.name for known in KNOWN_MODELS.values() if task.repo in known.same_as]
        other = f"--model {known[0]} is the same" if known else f"from Hugging Face: hf download {task.repo}"
        private = "a private one needs a token in MODELSCOPE_API_TOKEN"
        return f"{hub} has no such model{revision}; check owner/name; {other}; {private}"
    if status in (401, 403):
        token = "put a token that may read it into MODELSCOPE_API_TOKEN, and accept its terms if any"
        if in_the_open(task.url):
            token = "no token is sent over plain http, so give MODELSCOPE_ENDPOINT as https"
        return f"access denied ({status}){files}; {token}"
    if status == 429:
        return f"{hub} limits requests (429){files}; wait a few minutes and try again"
    return f"{hub} answered {status}{files}; try again later, what has arrived is kept"
