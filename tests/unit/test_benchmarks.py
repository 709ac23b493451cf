"""The benchmarks run, on few images. What they print is no business of a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        "growth.py examples --sizes 10 20",
        "similar.py examples --queries 5 --top-k 2",
        "draft.py --model demo --limit 4",
        "latency.py --model demo --rounds 2 --dtype float32",
        "cold_start.py --model demo --rounds 1",
        "explore.py --rounds 1",
        "webui_load.py --clients 2 --seconds 3",
        "page_up.py --rounds 1",
    ],
)
def test_it_prints_a_table(command: str) -> None:
    name, *arguments = command.split()
    line = [sys.executable, f"benchmarks/{name}", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert any(character.isdigit() for character in done.stdout)
