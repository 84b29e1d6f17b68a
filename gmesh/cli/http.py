# SPDX-License-Identifier: MIT
"""
One HTTP exchange with a daemon, over TCP, TLS or a unix socket, bounded in time and size.

The standard library is enough: a command makes a handful of requests and ends.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gmesh.cli.limits import (
    AUTHORITY_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_ANSWER,
    MAX_LINE,
    MAX_STREAM_HEAD,
    NODE_TIMEOUT,
)
from gmesh.cli.proxied import UNAUTHORIZED, connect_through, proxies_here, wants_credentials
from gmesh.client.answers import PROBLEM_PREFIX
from gmesh.errors import CarrierRefused, ConfigurationError, GmeshError
from gmesh.wire.proxy import ProxyAddress

__all__ = ["HttpAnswer", "Endpoint", "HttpRefused", "Unreachable"]

JSON_TYPE = "application/json"
_UCRED = struct.Struct("=iII")  # pid, uid, gid: struct ucred of socket(7)


class Unreachable(GmeshError):
    """No answer: nobody listens there, or not in time."""


class HttpRefused(GmeshError):
    """
    The daemon answered with a problem.

    @param status: the HTTP status.
    @param problem: the members of the problem document, empty if there was none.
    @param retry_after: seconds after which to ask again, as the answer says; at least one.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        status: int,
        problem: Mapping[str, Any],
        retry_after: int | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A successful answer: its status and its whole body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """
        The body as JSON.

        @raise HttpRefused: if it is not.
        """
        try:
            return json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise HttpRefused("invalid-answer", "the answer is not valid JSON", self.status, {}) from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Held:
    """An answer that is read already, as C{http.client} takes it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, mode: str) -> io.BytesIO:
        """All of it."""
        return io.BytesIO(self._answer)


def _head(sock: socket.socket) -> bytes:
    """The head of an answer, byte by byte: what follows is not ours."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise http.client.RemoteDisconnected("no answer")
        head += byte
        if len(head) > MAX_STREAM_HEAD:
            raise http.client.LineTooLong("head")
    return head


def _rest(sock: socket.socket) -> bytes:
    """What follows until the daemon closes, up to what an answer may have."""
    rest = b""
    while len(rest) <= MAX_ANSWER and (data := sock.recv(65536)):
        rest += data
    return rest


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn what the socket and the HTTP library raise into L{Unreachable}."""
    try:
        yield
    except TimeoutError as error:
        raise Unreachable("timeout", f"{where} did not answer in time") from error
    except ConnectionRefusedError as error:
        raise Unreachable("unreachable", f"nothing listens at {where}") from error
    except FileNotFoundError as error:
        raise Unreachable("unreachable", f"there is no socket at {where}: is the daemon running?") from error
    except CarrierRefused as error:
        raise Unreachable(error.reason, error.detail) from error
    except PermissionError as error:
        raise Unreachable("forbidden", f"{where} is for its owner and group, not for this user") from error
    except (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionResetError) as error:
        raise Unreachable("closed", f"{where} closed the connection before it had answered") from error
    except http.client.HTTPException as error:
        raise Unreachable("bad-answer", f"{where} does not speak HTTP ({type(error).__name__})") from error
    except UnicodeError as error:  # from the resolver
        raise Unreachable("unreachable", f"{where} names no host that can be looked up") from error
    except OSError as error:
        raise Unreachable("unreachable", f"cannot reach {where}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    Where a daemon listens.

    @param where: C{unix:PATH} or an C{http://} or C{https://} URL, for display too.
    """

    where: str

    def owner(self) -> int | None:
        """The uid of who listens on a unix socket, as the kernel knows it; None if that is nobody."""
        if not self.where.startswith("unix:"):
            return None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.settimeout(CONNECT_TIMEOUT)
                probe.connect(self.where.removeprefix("unix:"))
            except OSError:
                return None
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        uid: int = _UCRED.unpack(credentials)[1]
        return uid

    def _connection(self) -> tuple[http.client.HTTPConnection, str, dict[str, str], ProxyAddress | None]:
        """A connection, what stands before each path, headers for the proxy, and the proxy."""
        if self.where.startswith("unix:"):
            return _UnixConnection(self.where.removeprefix("unix:"), CONNECT_TIMEOUT), "", {}, None
        try:
            url = urlsplit(self.where)
            host, port = url.hostname, url.port
        except ValueError as error:
            raise ConfigurationError("bad-url", f"{self.where!r} is not a URL: {error}") from error
        if url.scheme not in ("http", "https") or not host:
            raise ConfigurationError("bad-url", f"{self.where!r} must start with http:// or https://")
        base = url.path.rstrip("/")
        number = port or (443 if url.scheme == "https" else 80)
        proxy = proxies_here().choose(host, number, plain_http=url.scheme == "http")
        if proxy is not None:
            through, before, headers = connect_through(proxy, url.scheme, host, number, CONNECT_TIMEOUT)
            return through, before + base, headers, proxy
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=CONNECT_TIMEOUT), base, {}, None

    @contextlib.contextmanager
    def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
        connection, base, more, proxy = self._connection()
        with contextlib.closing(connection):
            with _explained(self.where):
                connection.connect()
                sock = connection.sock
                sock.settimeout(timeout)
                connection.request(method, base + path, body=body or None, headers={**headers, **more})
                response = connection.getresponse()
                if proxy is not None and response.status == UNAUTHORIZED:
                    raise wants_credentials(proxy)
            with contextlib.closing(response):
                yield response, sock

    def _read(self, response: http.client.HTTPResponse, limit: int) -> bytes:
        with _explained(self.where):
            data = response.read(limit + 1)
            if response.length and len(data) <= limit:
                raise http.client.IncompleteRead(data, response.length)
        if len(data) > limit:
            raise HttpRefused("too-large", f"the answer of {self.where} is too large", response.status, {})
        return data

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float = AUTHORITY_TIMEOUT,
        limit: int = MAX_ANSWER,
        counts: Callable[[str, int, str, bytes], bool] = lambda path, status, kind, body: True,
    ) -> HttpAnswer:
        """
        One request and its whole answer.

        @param timeout: seconds of silence.
        @param limit: the largest body accepted.
        @param counts: whether path, status, media type and body are an answer of whom is asked.
        @raise Unreachable: if nobody answers, or somebody else.
        @raise HttpRefused: if the answer is an error.
        """
        with self._exchange(method, path, body, headers or {}, timeout) as (response, _):
            data = self._read(response, limit)
        if not counts(path, response.status, response.getheader("Content-Type", ""), data):
            detail = f"{self.where} answered {response.status}, but not as an authority does"
            raise Unreachable("bad-answer", detail)
        if response.status >= 300:
            raise _refusal(self.where, response, data)
        return HttpAnswer(response.status, data)

    def request_json(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout: float = NODE_TIMEOUT
    ) -> Any:
        """An unsigned JSON request, as the local API of a node takes it; the decoded answer."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Accept": JSON_TYPE} | ({"Content-Type": JSON_TYPE} if data else {})
        return self.request(method, path, data, headers, timeout).json()

    @contextlib.contextmanager
    def stream(
        self, path: str, timeout: float | None = None, body: Mapping[str, Any] | None = None
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """
        A C{GET} whose answer is one JSON object per line, until the far end closes.

        The block is entered once the far end has answered, so what it began is in place.

        @param timeout: seconds of silence between two lines; None waits for ever.
        @param body: with one it is a C{POST}.
        """
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Accept": JSON_TYPE} | ({"Content-Type": JSON_TYPE} if data else {})
        method = "POST" if data else "GET"
        with self._exchange(method, path, data, headers, NODE_TIMEOUT) as (response, sock):
            if response.status >= 300:
                raise _refusal(self.where, response, self._read(response, MAX_ANSWER))
            sock.settimeout(timeout)
            yield self._lines(response)

    def switch(self, request: bytes, status: int, timeout: float) -> socket.socket:
        """
        A connection that is no longer HTTP after the answer to this request; nothing behind its head is read.

        @param status: of that answer; any other is a refusal, after which the daemon closes.
        @param timeout: seconds that the answer may take.
        @raise Unreachable: if nobody answers.
        @raise HttpRefused: if the answer is another.
        """
        connection = self._connection()[0]  # to a node, on this host
        try:
            with _explained(self.where):
                connection.connect()
                sock: socket.socket = connection.sock
                sock.settimeout(timeout)
                sock.sendall(request)
                head = _head(sock)
                if head[9:12] == str(status).encode():
                    sock.settimeout(None)
                    connection.sock = None
                    return sock
                held: Any = _Held(head + _rest(sock))
                response = http.client.HTTPResponse(held)
                response.begin()
            raise _refusal(self.where, response, self._read(response, MAX_ANSWER))
        finally:
            connection.close()

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        while True:
            with _explained(self.where):
                line = response.readline(MAX_LINE + 1)
            if not line:
                return
            if len(line) > MAX_LINE:
                raise HttpRefused("too-large", f"a line of {self.where} is too large", response.status, {})
            if not line.endswith(b"\n"):
                raise Unreachable("closed", f"{self.where} closed the connection within a line")
            if line == b"\n":
                continue
            message = HttpAnswer(response.status, line).json()
            if not isinstance(message, dict):
                raise HttpRefused("invalid-answer", f"{self.where} sent no JSON object", response.status, {})
            yield message


def _refusal(where: str, response: http.client.HTTPResponse, data: bytes) -> HttpRefused:
    status, wait = response.status, _retry_after(response)
    try:
        problem = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict):
        return HttpRefused("bad-answer", f"{where} answered {status} without saying why", status, {}, wait)
    slug = str(problem.get("type", "")).removeprefix(PROBLEM_PREFIX) or "refused"
    detail = str(problem.get("detail") or problem.get("title") or slug)
    return HttpRefused(slug, detail, status, problem, wait)


def _retry_after(response: http.client.HTTPResponse) -> int | None:
    """The seconds of the header (RFC 9110, section 10.2.3); None for its form with a date."""
    text = response.getheader("Retry-After", "")
    return max(1, int(text)) if re.fullmatch(r"[0-9]{1,9}", text) else None
