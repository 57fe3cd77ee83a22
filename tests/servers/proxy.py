"""A proxy on loopback: counts the requests to a server, and makes some of them fail.

A fault is what happens on the network or in the server, at one request; the client that
meets it is the real one.
"""

import http.client
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as the client sent it."""

    number: int  # from 0, in the order of arrival
    method: str
    path: str
    query: dict
    headers: dict = field(repr=False)

    @property
    def what(self):
        """What it is on S3: GET, HEAD, PUT, DELETE, LIST, BULK DELETE or another."""
        if self.method == "GET" and "list-type" in self.query:
            return "LIST"
        if self.method == "POST" and "delete" in self.query:
            return "BULK DELETE"
        if self.method == "POST" and "uploads" in self.query:
            return "BEGIN UPLOAD"
        if "uploadId" in self.query:
            return {"PUT": "PUT PART", "POST": "END UPLOAD"}.get(
                self.method, "ABORT UPLOAD"
            )
        return self.method

    @property
    def is_conditional(self):
        """Whether it has a condition, without which S3 does not answer 409."""
        return not {"if-match", "if-none-match"}.isdisjoint(
            map(str.lower, self.headers)
        )

    @property
    def is_marker(self):
        return self.path.endswith("/__done__")


class Fault:
    """What happens to a request; by default nothing."""

    def happen(self, handler, request):
        handler.answer(*handler.ask_server())


class Status(Fault):
    """An answer of an error, which the server never gave."""

    def __init__(self, status, code):
        self.status = status
        self.body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"

    def happen(self, handler, request):
        body = b"" if request.method == "HEAD" else self.body.encode()
        headers = [("Content-Type", "application/xml")]
        handler.answer(self.status, headers, body)


class ResetBefore(Fault):
    """The connection is lost before the server gets the request."""

    def happen(self, handler, request):
        handler.reset()


class LostAnswer(Fault):
    """The server does what was asked; the connection is lost before the answer."""

    def happen(self, handler, request):
        handler.ask_server()
        handler.reset()


class CutBody(Fault):
    """The connection is lost in the middle of the answer's body."""

    def happen(self, handler, request):
        handler.answer(*handler.ask_server(), cut=True)


class Delay(Fault):
    """The answer comes late."""

    def __init__(self, seconds):
        self.seconds = seconds

    def happen(self, handler, request):
        answer = handler.ask_server()
        threading.Event().wait(self.seconds)
        handler.answer(*answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Of five at once, which is the default, a busy machine loses one now and then; the
    # client then asks again, and that counts.
    request_queue_size = 128


class Proxy:
    """Stands before the server at *url*; use it in a ``with`` statement.

    `requests` are those that arrived; `fault` takes one and returns a `Fault` or None.
    """

    def __init__(self, url):
        self.server_address = urlsplit(url).netloc
        self.requests = []
        self.fault = lambda request: None
        self.failed = []
        self._lock = threading.Lock()
        self._server = None

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        ).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def arrived(self, method, target, headers):
        parts = urlsplit(target)
        query = parse_qs(parts.query, keep_blank_values=True)
        with self._lock:
            number = len(self.requests)
            request = Request(number, method, unquote(parts.path), query, headers)
            self.requests.append(request)
            fault = self.fault(request)
            if fault is not None:
                self.failed.append(request)
        return request, fault or Fault()

    @property
    def counts(self):
        """How many requests of each kind arrived."""
        kinds = [request.what for request in self.requests]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def forget(self):
        """Count from 0 again."""
        with self._lock:
            self.requests.clear()
            self.failed.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy = None

    def log_message(self, *args):
        """Log nothing."""

    def handle(self):
        self._upstream = None
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass  # the client went away
        finally:
            if self._upstream is not None:
                self._upstream.close()

    def _do(self):
        self._body = self._read_body()
        method, target = self.command, self.path
        request, fault = self.proxy.arrived(method, target, dict(self.headers))
        fault.happen(self, request)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _do

    def _read_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def ask_server(self):
        """Hand the request on and return status, headers and body of the answer."""
        if self._upstream is None:
            self._upstream = http.client.HTTPConnection(self.proxy.server_address)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("transfer-encoding", "expect", "content-length")
        }
        headers["Content-Length"] = str(len(self._body))
        self._upstream.request(self.command, self.path, self._body, headers)
        answer = self._upstream.getresponse()
        body = answer.read()
        if answer.will_close:
            self._upstream.close()
            self._upstream = None
        return answer.status, answer.getheaders(), body

    def answer(self, status, headers, body, cut=False):
        """Answer the client; *cut* loses the connection in the middle of the body."""
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value  # of the body that a HEAD does not get
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()
        if cut:
            self.reset()

    def reset(self):
        """Lose the connection, so that the client sees it at once."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
