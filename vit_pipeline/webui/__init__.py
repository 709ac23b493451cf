"""The page in the browser: ``vit-pipeline webui``, ``python app.py``.

::

    launch()   the port, the environment, the model, the server; what is said on stderr
    guard      the door: who may ask, for what, how much     server    the process: health, draining, clean-up
    page       what stands where                             handlers  what happens on a click
    views      how it looks and what it says, in English and Chinese      inside    what the model looked at
    serving    the models in memory, and one call at a time, in small batches

Nothing heavy is imported here before it is needed: the environment is set first, the port is taken next.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
import tempfile
import tomllib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import ArgumentError, VitPipelineError, check_installed, printable

HOST, PORT = "127.0.0.1", 7860
AUTH = "VIT_PIPELINE_AUTH"
SAFE_PILLOW = 13
PREFIX = "vit-pipeline-uploads-"


class PortError(VitPipelineError):
    """The port is taken, or the host is none of this machine's."""


def launch(
    *,
    host: str = HOST,
    port: int = PORT,
    model: str = "demo",
    allow_models: str = "",
    allowed_hosts: Collection[str] = (),
    auth: str = "",
    max_waiting: int = 32,
    bars: Callable[[], AbstractContextManager[Any]] = nullcontext,
    **options: Any,
) -> None:
    """Serve the page until SIGTERM or Ctrl-C; the URL is printed on stderr once it can be opened.

    Args:
        allow_models: comma-separated names and folders that visitors may load besides the short names, or
            ``any``.
        allowed_hosts: names under which the page may be asked for, besides localhost, this machine's own
            name, and addresses in digits.
        auth: ``USER:PASSWORD`` that the page asks for; where empty, the environment's VIT_PIPELINE_AUTH.
        max_waiting: images that may wait; further ones are rejected at once.
        bars: a context manager that gives what is called with (file, bytes so far, bytes in all) while
            ``model`` is downloaded.
        options: as for ``ViTPipeline.from_pretrained``.

    Raises ArgumentError, PortError, and what loading ``model`` raises.
    """
    auth = auth or os.environ.pop(AUTH, "")
    user, _, password = auth.partition(":")
    if auth and not (user and password):
        raise ArgumentError(f"the login must look like USER:PASSWORD, in {AUTH} or in the file")
    check_installed("gradio", "the WebUI")
    settings = tomllib.loads((Path(__file__).parent / "server.toml").read_text("utf-8"))
    os.environ.update(settings["environment"])
    with _listen(host, port) as listener, _uploads() as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        import asyncio

        import torch

        from ..engine import cores
        from .handlers import Handlers
        from .server import Server, create_app
        from .serving import ModelPool, Worker

        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, cores() - 1))  # one is left for the server itself
        names = [name.strip() for name in allow_models.split(",") if name.strip()]
        with bars() as progress:
            pool = ModelPool(model, names, progress, **options)
        login = (user, password) if auth else None
        guard = create_app(Handlers(pool, Worker(max_waiting)), Path(uploads), login, allowed_hosts)

        host, port = listener.getsockname()[:2]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        ready = f"vit-pipeline: {pool.start.provenance} is ready on http://{where}"
        said = map(printable, [*_warnings(host, bool(auth)), ready])
        say = partial(print, *said, sep="\n", file=sys.stderr, flush=True)
        asyncio.run(Server(guard, say).serve(sockets=[listener]))
    os._exit(0)  # a model that is being downloaded, or a URL that hangs, must not keep the process


@contextmanager
def _uploads() -> Iterator[str]:
    """A folder for uploads, removed at the end; those of servers that were killed are removed first.

    Each is locked for as long as its server lives.
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*.lock"):
        with suppress(OSError, Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()
    temporary = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    with temporary as folder:
        with FileLock(f"{folder}.lock"):
            yield folder
        Path(f"{folder}.lock").unlink(missing_ok=True)


def _listen(host: str, port: int) -> socket.socket:
    """The port, taken before anything slow is done. Raises PortError where it cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        code = getattr(error, "errno", None)
        why = os.strerror(code) if code and code > 0 else error
        raise PortError(f"cannot listen on {host}:{port} ({why}); choose another one with --port") from error


def _warnings(host: str, login: bool) -> Iterator[str]:
    """What the owner should know before strangers come."""
    if not ipaddress.ip_address(host).is_loopback and not login:
        yield f"warning: others can reach {host} without a password: set {AUTH}=USER:PASSWORD to ask for one"
    if found := pillow_warning():
        yield f"warning: {found}"


def pillow_warning() -> str:
    """What is wrong with the installed Pillow, and what to type; empty where nothing is."""
    import PIL

    if int(PIL.__version__.split(".")[0]) >= SAFE_PILLOW:
        return ""
    return (
        f"Pillow {PIL.__version__} has two critical decoder bugs, fixed in 13.0.0, which gradio does not ask"
        " for yet: make webui installs it (or: pip install --no-deps 'pillow>=13')"
    )


__all__ = ["AUTH", "HOST", "PORT", "PortError", "launch", "pillow_warning"]
