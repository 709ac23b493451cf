"""The WebUI as its users have it: a process of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


PATIENCE = 300  # seconds; for what takes a moment on a quiet machine and may take minutes on a busy one


class WebUI:
    """``python app.py ...``; the constructor returns when the page can be opened.

    Args:
        program: Python that runs in app.py's place.
    """

    def __init__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, program: str = ""
    ) -> None:
        command = ["-c", program] if program else [str(ROOT / "app.py"), "--port", "0", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE) or not self.url:
            self.process.kill()
            self.process.wait(5)
            self._reader.join(5)
            raise RuntimeError("the WebUI did not start:\n" + "".join(self.lines))

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line)
                if found := re.search(r"ready on (http://\S+)", line):
                    self.url = found[1]
                    self._ready.set()
        self._ready.set()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """All it has printed."""
        return "".join(self.lines)

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM; returns the exit code. Whatever happens, the process is gone afterwards."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        finally:
            self.process.kill()
            self._reader.join(5)
        return code


@cache
def shared() -> WebUI:
    """One server for all tests that change nothing in it; it may reach private addresses."""
    server = WebUI("--allow-private-urls")
    atexit.register(server.stop)
    return server


def barriers(page: Any) -> list[str]:
    """What axe-core finds serious or critical on the page: the rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html']}"
        for one in found
        for node in one["nodes"]
        if one["impact"] in ("serious", "critical")
    ]
