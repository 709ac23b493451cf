"""A real web server on the loopback interface, whose answers a test writes itself."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]
Talk = Callable[[socket.socket, threading.Event], None]


class Web:
    """``pages`` maps a path to what answers it; ``seen`` are the requests, ``connections`` their number."""

    def __init__(self, server: ThreadingHTTPServer, scheme: str) -> None:
        self.port = server.server_address[1]
        self.address = f"{scheme}://127.0.0.1:{self.port}"
        self.pages: dict[str, Answer] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        #: as a proxy: the port of 127.0.0.1 that every CONNECT leads to; 0: none is let through
        self.tunnel = 0
        #: set at the end of a test, so that a dripping answer ends as well
        self.closing = threading.Event()


@contextmanager
def serving(certificate: str | None = None, key: str | None = None) -> Iterator[Web]:
    """A server on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            answer = web.pages.get(self.path)
            if answer is None:
                self.send_error(404)
                return
            try:
                answer(self)
            except OSError:  # the client has gone, as it should
                self.close_connection = True

        def do_CONNECT(self) -> None:
            web.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if not web.tunnel:
                self.send_error(403)
                return
            with socket.create_connection(("127.0.0.1", web.tunnel)) as there:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=_pour, args=(there, self.connection), daemon=True)
                back.start()
                _pour(self.connection, there)
                back.join(5)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, object]:
            web.connections += 1
            return super().get_request()

        def handle_error(self, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    web = Web(server, "https" if certificate else "http")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def _pour(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@contextmanager
def talking(talk: Talk) -> Iterator[int]:
    """A server that does with each connection whatever a test likes, until the event; its port."""
    closing = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the client has gone, as it should
            talk(connection, closing)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        closing.set()
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes accept()
        server.close()
        thread.join(5)


def body(data: bytes, status: int = 200, **headers: str) -> Answer:
    """An answer of these bytes, with its Content-Length unless another is given."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        for name, value in {"content-length": str(len(data)), **given}.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    """An answer that sends elsewhere."""
    return body(b"", status, Location=location)
