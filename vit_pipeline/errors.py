"""Every error this package raises on purpose, so that one ``except`` can catch it.

::

    VitPipelineError
    ├── ArgumentError (ValueError)   an argument has a value that cannot be used
    ├── ImageError                   an image could not be read
    │   └── FetchError               … because its URL could not be fetched
    │       └── UnsafeURLError       … or must not be fetched
    ├── ModelError                   a model could not be had
    │   ├── ModelNameError           the name means nothing, or two things
    │   ├── DownloadError            ModelScope did not deliver
    │   └── CheckpointError          the files are there and were rejected
    ├── DeviceError                  this machine has no such device or dtype
    └── OutputError                  results could not be written, or must not be mixed

Each message is one line: which input, what is wrong, what to do. The cause is chained.
"""

from __future__ import annotations

import re

_BREAK = re.compile(r"\s*[\t-\r\x1c-\x1e\x85\u2028\u2029]\s*")
_ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?)")  # colours, titles of terminals


def printable(text: object, limit: int = 500) -> str:
    """One line, safe for a terminal: no line breaks, no control characters, at most ``limit`` long."""
    clean = _BREAK.sub(" ", _ANSI.sub("", str(text))).strip()
    line = "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in clean)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def reason(error: BaseException) -> str:
    """What the system says is wrong, without the file's name: messages begin with that."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class VitPipelineError(Exception):
    """The base class. ``str(error)`` is one printable line."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))

    def to_dict(self) -> dict[str, str]:
        """``{"type": ..., "message": ...}``, as it stands in JSON output."""
        return {"type": type(self).__name__, "message": str(self)}


class ArgumentError(VitPipelineError, ValueError):
    """An argument has a value that cannot be used."""


class ImageError(VitPipelineError):
    """An image could not be read."""


class FetchError(ImageError):
    """An image's URL could not be fetched."""


class UnsafeURLError(FetchError):
    """A URL that must not be fetched: a private address, another scheme, a password in it."""


class ModelError(VitPipelineError):
    """A model could not be had."""


class ModelNameError(ModelError):
    """A model name that means nothing, or two things."""


class DownloadError(ModelError):
    """ModelScope did not deliver the files."""


class CheckpointError(ModelError):
    """The files are there, and were rejected."""


class DeviceError(VitPipelineError):
    """This machine has no such device, or the device no such dtype."""


class OutputError(VitPipelineError):
    """Results could not be written, or must not be mixed with those that are there."""


def check_installed(package: str, what: str, module: str = "") -> None:
    """Raise ArgumentError where ``what`` needs a package of an extra and it is missing.

    The message has the line to type, by that package's name: on the index, ``vit-pipeline`` is not ours.
    ``module`` is what is imported, where it has another name.
    """
    from importlib import metadata, util

    if util.find_spec(module or package) is not None:
        return
    try:
        declared = [line.partition(";")[0].strip() for line in metadata.requires("vit-pipeline") or []]
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        declared = []
    wanted = next((line for line in declared if re.split(r"[<>=~! ]", line)[0] == package), package)
    raise ArgumentError(f"{what} needs {package}, which is not installed; type: pip install '{wanted}'")


__all__ = [
    "ArgumentError",
    "CheckpointError",
    "DeviceError",
    "DownloadError",
    "FetchError",
    "ImageError",
    "ModelError",
    "ModelNameError",
    "OutputError",
    "UnsafeURLError",
    "VitPipelineError",
]
