"""What several test modules share: a local hub, one tiny checkpoint on it, the command line."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer

# Before torch is imported, here and in every process that a test starts: the models are small, and threads
# that wait for each other in a loop take a busy machine's cores from everybody.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # pytest-xdist's; transcripts are as wide as a pipe's

Run = Callable[..., tuple[int, str, str]]
Spawn = Callable[..., subprocess.Popen[str]]
#: Seconds, for what takes a moment on a quiet machine and may take minutes on a busy one.
PATIENCE = int(os.environ.get("VIT_PIPELINE_PATIENCE", "300"))


def wait_for(condition: Callable[[], object], what: str = "what was waited for") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.01)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test is marked with the name of its folder; what is long is slow, too."""
    for item in items:
        item.add_marker(item.path.parent.name)
        if item.get_closest_marker("long"):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tiny ViT as transformers saves one: file name → content. Do not change it; copy."""
    from tiny import make_checkpoint

    folder = make_checkpoint(tmp_path_factory.mktemp("tiny"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty hub to which ModelScope's client is pointed, with an empty cache in ``tmp_path/cache``.

    The client repeats what failed as often as ever, but without its pauses of up to 30 s in all.
    """
    import modelscope_hub._download
    import modelscope_hub._legacy_api

    monkeypatch.setattr(modelscope_hub._download, "DOWNLOAD_RETRY_MAX_DELAY_SECONDS", 0)
    monkeypatch.setattr(modelscope_hub._download, "DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0)
    monkeypatch.setattr(modelscope_hub._legacy_api, "REPO_TREE_PAGE_RETRY_MAX_DELAY_SECONDS", 0)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "modelscope"))  # its credentials
    monkeypatch.setenv("MODELSCOPE_DOWNLOAD_INTRA_CLOUD", "false")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))  # of other processes; read once, so also here:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    monkeypatch.delenv("MODELSCOPE_DOMAIN", raising=False)
    monkeypatch.delenv("VIT_PIPELINE_HUB_TIMEOUT", raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with HubServer() as server:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.endpoint)
        _forget_endpoint()
        yield server
    _forget_endpoint()


def _forget_endpoint() -> None:
    """The client reads its environment once a process."""
    if "modelscope_hub.config" in sys.modules:
        sys.modules["modelscope_hub.config"].set_default_config(None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object, stdin: bytes | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vit-pipeline", *map(str, arguments)])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        from vit_pipeline.cli import main

        with pytest.raises(SystemExit) as caught:  # typer ends every command with it
            main()
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture
def chinese_font() -> None:
    """For figures with Chinese in them: matplotlib warns of every character that no font has."""
    from matplotlib.font_manager import get_font_names

    from vit_pipeline.explain.figure import _CHINESE

    if not {*_CHINESE} & {*get_font_names()}:
        pytest.skip("no Chinese font (Debian: fonts-noto-cjk; then delete matplotlib's cache)")


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a process; when the test is over, it and its children are ended, however the test went."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: object, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([*map(str, command)], start_new_session=True, **pipes | options)
        started.append(process)
        return process

    yield start
    for process in started:
        with process:  # closes its pipes and waits for it
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
