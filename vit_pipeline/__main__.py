"""The entry point of ``vit-pipeline`` and ``python -m vit_pipeline``: Ctrl-C is one line and code 130."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, on_interrupt)
    from .cli import main as run

    run()


def on_interrupt(_: Any, frame: FrameType | None) -> None:
    """KeyboardInterrupt, as ever; but a library that is being imported may swallow it: end at once there."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            sys.stderr.write("interrupted\n")
            sys.stderr.flush()
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
