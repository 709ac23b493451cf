"""Many visitors at once: does every request of the WebUI end in the right answer, or in an explicit "busy"?

    python benchmarks/webui_load.py [--clients 32] [--seconds 60] [--model demo] [--url http://127.0.0.1:7860]

Without ``--url`` a server is started for the occasion. Each answer is compared with the one that a single
``predict`` gives; meanwhile ``/health/live`` is asked four times a second, and the server's memory is read.
Prints one JSON object; exit code 1 when an answer was wrong, or neither answer nor "busy" came.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import requests
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-5  # a batch of eight rounds its sums in another order than a batch of one


def make_images() -> list[bytes]:
    """Sixteen different images, cut out of the example photos."""
    found = []
    for path in sorted((ROOT / "examples").glob("*.[pj][np]g")):
        image = Image.open(path).convert("RGB")
        width, height = image.size
        for left, top in ((0, 0), (width // 3, 0), (0, height // 3), (width // 3, height // 3)):
            out = BytesIO()
            image.crop((left, top, left + width // 2, top + height // 2)).save(out, "PNG")
            found.append(out.getvalue())
    return found


def expected(images: list[bytes], model: str) -> list[tuple[str, float]]:
    """What a single call says of each."""
    from vit_pipeline import predict

    return [(p.label, p.score) for p in (predict(image, model) for image in images)]


def ask(session: requests.Session, url: str, image: bytes) -> tuple[str, Any]:
    """One request, as a program makes it: ("answer", result), ("busy", message) or ("failed", why)."""
    try:
        sent = session.post(f"{url}/gradio_api/upload", files={"files": ("p.png", image)}, timeout=60)
        sent.raise_for_status()
        file = {"path": sent.json()[0], "orig_name": "p.png", "meta": {"_type": "gradio.FileData"}}
        call = session.post(f"{url}/gradio_api/call/classify", json={"data": [file, "", 5, ""]}, timeout=60)
        call.raise_for_status()
        stream = session.get(f"{url}/gradio_api/call/classify/{call.json()['event_id']}", timeout=120)
        stream.raise_for_status()
    except requests.RequestException as error:
        return "failed", repr(error)
    event, _, rest = stream.content.decode().strip().rpartition("event: ")[2].partition("\n")
    data = rest.partition("data: ")[2]
    if event == "complete":
        return "answer", json.loads(data)[0]
    return ("busy" if "busy" in data else "failed"), data


def probe(url: str, seconds: float) -> list[float]:
    """What asking ``/health/live`` takes, in a process of its own, as a prober is: not one of 200 threads."""
    end, took = time.monotonic() + seconds, []
    while time.monotonic() < end:
        began = time.monotonic()
        requests.get(f"{url}/health/live", timeout=10).raise_for_status()
        took.append(time.monotonic() - began)
        time.sleep(0.25)
    return took


class Load:
    """Clients in threads, and what became of their requests."""

    def __init__(self, url: str, images: list[bytes], right: list[tuple[str, float]]) -> None:
        self.url, self.images, self.right = url, images, right
        self.count: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.problems: list[str] = []
        self.live: list[float] = []
        self._prober = ProcessPoolExecutor(1, get_context("spawn"))
        self._lock = threading.Lock()

    def run(self, clients: int, seconds: float) -> None:
        """Ask for so long."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._client, args=(n, end)) for n in range(clients)]
        live = self._prober.submit(probe, self.url, seconds)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            self.live += live.result()
        except requests.RequestException as error:
            self.problems.append(f"live: {error!r}")

    def _client(self, number: int, end: float) -> None:
        session = requests.Session()
        place = number
        while time.monotonic() < end:
            place = (place + 1) % len(self.images)
            began = time.monotonic()
            kind, result = ask(session, self.url, self.images[place])
            took = time.monotonic() - began
            if kind == "answer":
                label, score = self.right[place]
                if result["label"] != label or abs(result["score"] - score) > TOLERANCE:
                    kind, result = "wrong", f"{result['label']} {result['score']}, expected {label} {score}"
            with self._lock:
                self.count[kind] += 1
                self.seconds.append(took)
                if kind in ("wrong", "failed"):
                    self.problems.append(str(result)[:300])
            if kind == "busy":
                time.sleep(0.1)


def memory(pid: int) -> float | str:
    """Resident MB of a process; "not known" where its number was not given or /proc does not tell it."""
    status = Path(f"/proc/{pid}/status")
    if not pid or not status.exists():
        return "not known"
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--url", default="")
    parser.add_argument("--pid", type=int, default=0, help="of the server at --url, to read its memory")
    options = parser.parse_args()
    images = make_images()
    right = expected(images, options.model)
    sys.path.insert(0, str(ROOT / "tests"))
    from serve import WebUI

    server = None if options.url else WebUI("--model", options.model)
    url, pid = options.url or server.url, options.pid or (server.pid if server else 0)
    load = Load(url.rstrip("/"), images, right)
    try:
        load.run(4, 0.5)
        for _ in range(100 // 4):
            load.run(4, 0.01)
        after_100 = memory(pid)
        load.run(options.clients, options.seconds)
        while sum(load.count.values()) < 2000:
            load.run(8, 1)
        report = {
            "clients": options.clients,
            "seconds": options.seconds,
            "requests": dict(load.count),
            "median_s": round(sorted(load.seconds)[len(load.seconds) // 2], 3),
            "slowest_s": round(max(load.seconds), 3),
            "live_asked": len(load.live),
            "live_slowest_s": round(max(load.live), 3),
            "memory_after_100_mb": after_100,
            "memory_at_the_end_mb": memory(pid),
            "problems": load.problems[:5],
        }
        print(json.dumps(report, indent=2))
    finally:
        if server:
            server.stop()
    return 1 if load.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.TimeoutExpired as error:
        sys.exit(str(error))
