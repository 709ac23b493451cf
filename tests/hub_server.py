"""A small server on 127.0.0.1 that speaks ModelScope's protocol, with switches for what can go wrong.

As a test's hub (see the fixture ``hub`` in conftest.py)::

    with HubServer() as hub:
        hub.add("acme/tiny-vit", folder)                         # or {"config.json": b"{...}", ...}
        hub.add("acme/tiny-vit", {...}, revision="v1")           # a tag
        hub.fault("model.safetensors", cut=1000, times=1)        # the connection breaks once
        ...                                                      # MODELSCOPE_ENDPOINT=hub.endpoint
        assert hub.downloads == ["config.json", ...]             # files asked for; hub.requests has it all

Faults are set for a file name or for ``"listing"``, until ``hub.heal()``:

    status=503      answer with that status
    cut=N           close the connection after N bytes of the body
    corrupt=True    as many bytes as the listing says, but with another SHA-256
    short=N         N bytes fewer than the listing says, with the Content-Length of those
    stall=N         send N bytes of the body, then nothing until the server is closed or healed
    delay=S         wait S seconds before each 16 KiB of the body
    body=b"..."     answer with that instead
    times=N         only for the first N requests

``hub.token`` demands a token (401 without it, 403 with another). ``hub.redirect = True`` sends files by way
of a 302, as the real hub does for large ones. Paths in a repository are served as they are given, ``../``
and absolute ones too.

By hand: ``python tests/hub_server.py FOLDER [PORT]`` serves FOLDER/owner/name/ and prints the endpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

LISTING = "listing"


@dataclass
class Request:
    """One request as it came in. ``file`` is the name of the file asked for, ``"listing"``, or empty."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    file: str = ""


@dataclass
class Fault:
    status: int | None = None
    cut: int | None = None
    corrupt: bool = False
    short: int = 0
    stall: int | None = None
    delay: float = 0.0
    body: bytes | None = None
    times: int | None = None


@dataclass
class HubServer:
    port: int = 0
    token: str = ""
    redirect: bool = False
    requests: list[Request] = field(default_factory=list)
    repos: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)

    def __enter__(self) -> HubServer:
        self._lock = threading.Lock()
        self._healed = threading.Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering: the hub is down. Requests that hang end."""
        self._healed.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo: str, files: Mapping[str, bytes] | Path, revision: str = "master") -> None:
        """Publish ``files`` (a folder, or path → content) as ``revision`` of ``repo``."""
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        self.repos[repo, revision] = dict(files)

    def fault(self, name: str, **switches: Any) -> None:
        """Make requests for ``name``, a file or ``"listing"``, go wrong."""
        self.faults[name] = Fault(**switches)

    def heal(self) -> None:
        """End all faults."""
        self.faults.clear()
        self._healed.set()
        self._healed = threading.Event()

    def clear(self) -> None:
        """Forget the requests."""
        self.requests.clear()

    @property
    def downloads(self) -> list[str]:
        """The files asked for so far, sorted."""
        return sorted(request.file for request in self.requests if request.file not in ("", LISTING))

    def take_fault(self, name: str) -> Fault:
        with self._lock:
            fault = self.faults.get(name, Fault())
            if fault.times is not None:
                fault.times -= 1
                if fault.times < 0:
                    return Fault()
            return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away is part of the tests


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        request = Request(url.path, query, dict(self.headers.items()))
        self.hub.requests.append(request)
        if url.path == "/api/v1/repos/internalAccelerationInfo":
            self._json(200, {"Code": 200, "Data": {"InternalRegionQueryAddress": ""}, "Success": True})
            return
        match = re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?|/cdn/([^/]+/[^/]+)", url.path)
        if match is None:
            self._json(404, {"Code": 404, "Message": "no such page", "Success": False})
            return
        request.file = LISTING if match[2] else query.get("FilePath", "")
        fault = self.hub.take_fault(request.file)
        if fault.status is not None:
            self._json(fault.status, {"Code": fault.status, "Message": "出错了", "Success": False})
        elif self.hub.token and not match[3] and (refused := self._refused()):
            self._json(refused, {"Code": refused, "Message": "无权限", "Success": False})
        elif (files := self.hub.repos.get((match[1] or match[3], query.get("Revision", "master")))) is None:
            self._json(404, {"Code": 10010205001, "Message": "模型不存在", "Success": False})
        elif match[2]:
            listing = {"Code": 200, "Success": True, "Message": "success", "Data": {"Files": _entries(files)}}
            self._body(fault.body if fault.body is not None else json.dumps(listing).encode(), fault)
        elif request.file not in files:
            self._json(404, {"Code": 10010205002, "Message": "文件不存在", "Success": False})
        elif self.hub.redirect and not match[3]:
            self.send_response(302)
            self.send_header("Location", f"/cdn/{match[1]}?{url.query}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._file(files[request.file], fault)

    def _refused(self) -> int | None:
        sent = self.headers.get("Authorization", "")
        if not sent:
            return 401
        return None if sent == f"Bearer {self.hub.token}" else 403

    def _json(self, status: int, value: object) -> None:
        self._body(json.dumps(value).encode(), Fault(), status)

    def _file(self, content: bytes, fault: Fault) -> None:
        if fault.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault.short:
            content = content[: -fault.short]
        if fault.body is not None:
            content = fault.body
        start = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if start is None:
            self._body(content, fault)
            return
        first = int(start[1])
        last = min(int(start[2] or len(content) - 1), len(content) - 1)
        if first >= len(content):
            self._body(b"", fault, 416, f"bytes */{len(content)}")
        else:
            self._body(content[first : last + 1], fault, 206, f"bytes {first}-{last}/{len(content)}")

    def _body(self, content: bytes, fault: Fault, status: int = 200, content_range: str = "") -> None:
        healed = self.hub._healed
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        limit = fault.cut if fault.cut is not None else fault.stall
        for start in range(0, len(content[:limit]), 16384):
            if fault.delay:
                healed.wait(fault.delay)
            self.wfile.write(content[:limit][start : start + 16384])
            self.wfile.flush()
        if fault.stall is not None:
            healed.wait()
        if limit is not None:
            self.close_connection = True


def _entries(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [
        {
            "Path": path,
            "Name": path.rpartition("/")[2],
            "Type": "blob",
            "Size": len(content),
            "Sha256": hashlib.sha256(content).hexdigest(),
            "IsLFS": len(content) > 100_000,
            "Revision": hashlib.sha1(quote(path).encode() + content).hexdigest(),
            "Mode": "33188",
        }
        for path, content in files.items()
    ]


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with HubServer(port) as hub:
        for repo in sorted(path for path in folder.glob("*/*") if path.is_dir()):
            hub.add(repo.relative_to(folder).as_posix(), repo)
        print(f"export MODELSCOPE_ENDPOINT={hub.endpoint} NO_PROXY=127.0.0.1", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
