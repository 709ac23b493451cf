"""The page in the browser: ``vit-pipeline webui``, ``python app.py``.

::

    launch()      the port, the environment, the model, the server; what is said on stderr
    server        the process: health, draining, clean-up      guard     the door: what passes, how large
    page          what stands where                            handlers  what happens on a click
    html, text    how it looks and what it says, in English and Chinese
    serving       one model call at a time, in small batches   model_pool, sessions   what is kept

Nothing heavy is imported here before it is needed: the environment is set first, the port is taken next.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, VitPipelineError, check_installed, printable

HOST, PORT = "127.0.0.1", 7860
SAFE_PILLOW = 13


def launch(
    *,
    host: str = HOST,
    port: int = PORT,
    model: str = "demo",
    allow_models: str = "",
    auth: str = "",
    device: str = "auto",
    dtype: str = "float32",
    allow_private_urls: bool = False,
    max_waiting: int = 32,
    bars: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Serve the page until SIGTERM or Ctrl-C; the URL is printed on stderr once it can be opened.

    Args:
        allow_models: comma-separated names and folders that visitors may load besides the short names, or
            ``any``.
        auth: ``USER:PASSWORD`` that the page asks for.
        allow_private_urls: let the URL box reach the private addresses of the server's own network.
        max_waiting: images that may wait; further ones are refused at once.
        bars: a context manager that gives what is called with (file, bytes so far, bytes in all) while
            ``model`` is downloaded.

    Raises ArgumentError, and what loading ``model`` raises.
    """
    login = _login(auth)
    _prepare_environment()
    with _listen(host, port) as listener:
        uploads = Path(tempfile.mkdtemp(prefix="vit-pipeline-"))
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        try:
            _serve(
                listener,
                uploads,
                login,
                names=[name.strip() for name in allow_models.split(",") if name.strip()],
                settings={"device": device, "dtype": dtype, "allow_private": allow_private_urls},
                model=model,
                max_waiting=max_waiting,
                bars=bars,
            )
        finally:
            shutil.rmtree(uploads, ignore_errors=True)
    os._exit(0)  # a model that is being downloaded, or a URL that hangs, must not keep the process


def _serve(
    listener: socket.socket,
    uploads: Path,
    login: tuple[str, str] | None,
    *,
    names: list[str],
    settings: dict[str, Any],
    model: str,
    max_waiting: int,
    bars: Callable[[], AbstractContextManager[Any]],
) -> None:
    check_installed("gradio", "the WebUI")
    from .model_pool import ModelPool
    from .server import Server, create_app
    from .service import Service
    from .serving import Worker

    with bars() as progress:
        pool = ModelPool(model, names, progress=progress, **settings)
    service = Service(pool, Worker(max_waiting))
    guard = create_app(service, uploads, auth=login)

    def ready() -> None:
        host, port = listener.getsockname()[:2]
        for warning in _warnings(host, bool(login)):
            _say(warning)
        shown = f"[{host}]" if ":" in host else host
        _say(f"vit-pipeline: {service.pool.start.pipe.provenance} is ready on http://{shown}:{port}")

    asyncio.run(Server(guard, uploads, ready).serve(sockets=[listener]))
    service.close()


def _prepare_environment() -> None:
    """Before gradio and torch are imported: nobody is told anything, and one core is left for the server."""
    from .serving import spare_one_core

    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"  # weights come from ModelScope, and by our own code
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    # statistics for a dashboard that is off: otherwise made anew, with pandas, after every request
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    spare_one_core()


def _listen(host: str, port: int) -> socket.socket:
    """The port, taken before anything slow is done. Raises ArgumentError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise PortError(f"cannot listen on {host}:{port} ({why}); choose another one with --port") from error
    return listener


class PortError(VitPipelineError):
    """The port is taken, or the host is none of this machine's."""


def _login(auth: str) -> tuple[str, str] | None:
    user, colon, password = auth.partition(":")
    if auth and not (user and colon and password):
        raise ArgumentError("--auth must look like USER:PASSWORD")
    return (user, password) if auth else None


def _warnings(host: str, login: bool) -> list[str]:
    """What the owner should know before strangers come."""
    import PIL

    warnings = []
    if not ipaddress.ip_address(host).is_loopback and not login:
        warnings.append(
            f"warning: others can reach {host}, and nobody is asked for a password: add --auth USER:PASSWORD"
        )
    if int(PIL.__version__.split(".")[0]) < SAFE_PILLOW:
        warnings.append(
            f"warning: Pillow {PIL.__version__} has two critical decoder bugs, fixed in 13.0.0, which gradio"
            " does not ask for yet: make webui installs it (or: pip install --no-deps 'pillow>=13')"
        )
    return warnings


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


__all__ = ["HOST", "PORT", "PortError", "launch"]
