"""What went wrong between here and ModelScope, in one line: which model, what happened, what to do.

The client's own messages are sometimes in Chinese only, and several lines long; they stay in the chained
cause. Nothing here does anything: ``client`` runs the client, ``__init__`` decides.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from .cache import cache_folder


class Stalled(Exception):
    """Nothing was heard for as long as the caller is willing to wait."""


class TooLarge(Exception):
    """The hub offers a file beyond what a file of that name can be."""


def storage_advice(error: OSError) -> str:
    """What to do when the cache cannot be written; empty when ``error`` is about something else."""
    cache = cache_folder()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left in {cache}; make room, or point MODELSCOPE_CACHE to a larger disk"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return f"{cache} cannot be written; point MODELSCOPE_CACHE to a folder that can"
    return ""


def token_for(endpoint: str | None) -> str | None:
    """None: the client's own choice (a token in the environment, then its login). Empty: send none.

    The client sends a token over plain http too, where anyone on the way can read it; from here it goes
    over plain http to this machine only.
    """
    if endpoint and _in_the_open(endpoint):
        return ""
    return os.environ.get("MODELSCOPE_API_TOKEN")  # read anew: the client reads it once a process


def _in_the_open(endpoint: str) -> bool:
    parts = urlsplit(endpoint.strip())
    if parts.scheme.lower() != "http":
        return False
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    return parts.hostname != "localhost"


def explain(
    error: Exception,
    model: str,
    revision: str | None,
    endpoint: str | None,
    timeout: float,
    notes: Sequence[str],
) -> str:
    """The line for ``error``, as the client raised it.

    Args:
        model: as the user should read it.
        endpoint: the hub's address; None for the public one.
        timeout: seconds that were waited, for ``Stalled``.
        notes: the client's log lines.
    """
    hub = (urlsplit(endpoint).netloc.rpartition("@")[2] or endpoint) if endpoint else "modelscope.cn"
    if isinstance(error, Stalled):
        # the latest complaint: "Download failed for model.safetensors (ServerError), retrying in 8s"
        last = next((f" ({note})" for note in reversed(notes) if "retry" in note), "")
        return (
            f"{model}: {hub} sent nothing for {timeout:g} s{last}; try again, what has arrived is kept, or "
            "allow more seconds with VIT_PIPELINE_HUB_TIMEOUT"
        )
    if isinstance(error, TooLarge):
        return f"{model}: refused, {error}"
    if isinstance(error, ImportError):
        return f"{model}: the package modelscope cannot be imported ({error}); pip install modelscope"

    failed: dict[str, BaseException] = getattr(error, "failed_files", {})
    raised = [*failed.values(), error]
    causes = [*raised, *(e.__cause__ for e in raised if e.__cause__)]
    for cause in causes:
        if isinstance(cause, OSError) and (advice := storage_advice(cause)):
            return f"{model}: {advice}"
    files = f" for {', '.join(failed)}" if failed else ""
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    statuses = [getattr(cause, "status_code", None) for cause in causes]
    if "FileIntegrityError" in kinds:
        what = "size" if "FileSizeMismatchError" in kinds else "SHA-256"
        return (
            f"{model}: what {hub} sent{files} does not have the {what} that it lists, and was not kept; "
            "try again later, or tell the repository's owner"
        )
    if status := next((status for status in statuses if isinstance(status, int)), None):
        return f"{model}: {_about_status(status, hub, revision, endpoint, files)}"
    if "_DownloadDeadlineError" in kinds:
        return (
            f"{model}: the client's time for one file is over{files}; try again, what has arrived is kept, "
            "or allow more seconds with MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT"
        )
    if kinds & {"JSONDecodeError", "TypeError", "AttributeError", "KeyError", "ValueError"}:
        return f"{model}: {hub} answered with no file listing; is MODELSCOPE_ENDPOINT a ModelScope server?"
    if kinds & {"ConnectionError", "Timeout", "TimeoutError"}:
        return (
            f"{model}: {hub} cannot be reached{files}; check the network, MODELSCOPE_ENDPOINT and proxies "
            "(HTTPS_PROXY, NO_PROXY); a folder on disk and the embedded model work offline"
        )
    return f"{model}: the download failed{files}: {type(error).__name__}: {error}"


def _about_status(status: int, hub: str, revision: str | None, endpoint: str | None, files: str) -> str:
    private = "a private model needs a token in MODELSCOPE_API_TOKEN"
    if status == 404 and revision:
        return f"{hub} has no such model, or it has no branch or tag {revision!r}; check both; {private}"
    if status == 404:
        return f"{hub} has no such model; check owner/name; {private}"
    if status in (401, 403):
        if endpoint and _in_the_open(endpoint):
            advice = "no token is sent over plain http, so give MODELSCOPE_ENDPOINT as https"
        else:
            advice = (
                "put a token that may read it into MODELSCOPE_API_TOKEN, and accept the model's terms if any"
            )
        return f"access denied ({status}){files}; {advice}"
    if status == 429:
        return f"{hub} limits requests (429){files}; wait a few minutes and try again"
    return f"{hub} answered {status}{files}; try again later, what has arrived is kept"
