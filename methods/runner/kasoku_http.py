"""HTTP to one server, and the only module of Kasoku that opens a socket.

Requests go to the address that was named and to no other: proxies are not asked, redirects are not followed, and a key
is sent nowhere else. Answers and lines are bounded in size, and every wait in time. What goes wrong is a ServerError,
one sentence without the key.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import re
import socket
import ssl
import time
from urllib.parse import urlsplit

from kasoku_failure import ServerError, TimeIsUpError
from kasoku_http_events import Events

CONNECT_S = 10.0
ANSWER_S = 60.0
SILENT_S = 600.0  # between two events; the session's own deadline is usually shorter
ANSWER_BYTES = 16 << 20
READ_BYTES = 1 << 16
SAID_LENGTH = 200
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\s]+")


class Server:
    """The server at `url`, whose path is put before each request's; `key` is its API key, None: it wants none.

    After `until`, on the monotonic clock in seconds, nothing is waited for: what is under way raises TimeIsUpError.
    """

    def __init__(self, url: str, key: str | None = None, until: float = math.inf) -> None:
        parts = urlsplit(url)
        self.scheme, self.host = parts.scheme, parts.hostname or ""
        self.port = parts.port or (443 if self.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/")
        self._key, self._until = key, until
        self._connection: http.client.HTTPConnection | None = None

    @property
    def name(self) -> str:
        """Host and port, for sentences."""
        return "%s:%d" % ("[%s]" % self.host if ":" in self.host else self.host, self.port)

    def connect(self, within_s: float = CONNECT_S) -> None:
        """Open a connection, which the next request takes; an earlier one is closed. Raises ServerError."""
        self.close()
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=self._left_s(time.monotonic() + within_s))
        try:
            connection.connect()
        except (OSError, ValueError) as error:  # of a host's name that is none
            connection.close()
            self._check_time()
            raise ServerError("The server at %s cannot be reached: %s." % (self.name, self._reason(error))) from error
        self._connection, self._socket = connection, connection.sock

    def ask(self, path: str, body: dict | None = None, within_s: float = ANSWER_S) -> object:
        """What the server answers to a GET, or to a POST of `body`, from JSON. Raises ServerError."""
        deadline = time.monotonic() + within_s
        self.connect(min(within_s, CONNECT_S))
        try:
            response = self._request(path, body, deadline)
            return self.parsed(self._all_of(response, deadline))
        finally:
            self.close()

    def events(self, path: str, body: dict, most_bytes: int) -> object:
        """The JSON objects of a stream of server-sent events as they come, at most so many bytes of them.

        Raises ServerError where the stream ends without the mark that it is complete, `data: [DONE]` or an object whose
        `stop` is true.
        """
        if self._connection is None:
            self.connect()
        try:
            response = self._request(path, body, time.monotonic() + SILENT_S)
            kind = response.headers.get_content_type()
            if kind != "text/event-stream":
                raise self.does_not_stream(kind)
            yield from self._events_of(response, most_bytes)
        finally:
            self.close()

    def open(self) -> OpenConnection:
        """A connection of its own, for a caller who waits for many. Raises ServerError."""
        self.connect()
        connection, self._connection = self._connection, None
        return OpenConnection(self, connection.sock)

    def posted(self, path: str, body: dict) -> bytes:
        """A POST of `body` as it goes over a connection that is kept open."""
        content = json.dumps(body).encode()
        lines = ["POST %s%s HTTP/1.1" % (self.prefix, path), "Host: %s" % self.name]
        lines += ["%s: %s" % field for field in self._headers(content).items()]
        return ("\r\n".join([*lines, "Content-Length: %d" % len(content)]) + "\r\n\r\n").encode("latin-1") + content

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def said(self, text: object) -> str:
        """Words of the server's as one short line, fit to be shown, without the key."""
        words = str(text)
        if self._key:
            words = words.replace(self._key, "…")
        line = UNPRINTABLE.sub(" ", words).strip()
        return line if len(line) <= SAID_LENGTH else line[: SAID_LENGTH - 1] + "…"

    def _request(self, path: str, body: dict | None, deadline: float) -> http.client.HTTPResponse:
        content = None if body is None else json.dumps(body).encode()
        headers = self._headers(content)
        try:
            self._connection.request("GET" if body is None else "POST", self.prefix + path, content, headers)
            self._wait_until(deadline)
            response = self._connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.broken(error, path) from error
        if response.status != http.client.OK:
            raise self._refusal(response, path, deadline)
        return response

    def _headers(self, content: bytes | None) -> dict:
        headers = {"Accept": "text/event-stream, application/json", "User-Agent": "kasoku"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = "Bearer " + self._key
        return headers

    def _refusal(self, response: http.client.HTTPResponse, path: str, deadline: float) -> ServerError:
        status, content = response.status, b""
        if status >= 400:
            with contextlib.suppress(ServerError):
                content = self._all_of(response, deadline)
        return self.refused(path, status, response.headers.get("Location", ""), content)

    def refused(self, path: str, status: int, location: str, content: bytes) -> ServerError:
        """What to say of an answer with another status than 200, whose body is `content`."""
        if 300 <= status < 400:
            to = self.said(location or "another address")
            return ServerError("The server at %s redirects %s to %s, which is not followed." % (self.name, path, to))
        if status in (401, 403):
            return ServerError(
                "The server at %s refuses %s (%d): %s."
                % (self.name, path, status, "the API key is wrong" if self._key else "it wants an API key"),
                status,
            )
        words = self.said(message_in(content))
        return ServerError(
            "The server at %s answered %s with status %d%s" % (self.name, path, status, ": " + words if words else "."),
            status,
        )

    def _all_of(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        parts: list = []
        size = 0
        while True:
            self._wait_until(deadline)
            part = self._read(response)
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES:
                raise ServerError("The server at %s answered with over %d MB." % (self.name, ANSWER_BYTES >> 20))
            if time.monotonic() > deadline:
                raise ServerError("The server at %s did not finish its answer in time." % self.name)

    def _events_of(self, response: http.client.HTTPResponse, most_bytes: int) -> object:
        events = Events(self, most_bytes)
        newest = time.monotonic()
        while not events.over:
            self._wait_until(newest + SILENT_S)
            part = self._read(response)
            if not part:
                raise self.cut_short()
            for told in events.feed(part):
                newest = time.monotonic()
                yield told
            if time.monotonic() - newest > SILENT_S:
                raise self.silent(SILENT_S)

    def _wait_until(self, deadline: float) -> None:
        """Have the next read end by then. The connection gives up its socket to the response before that is read."""
        self._socket.settimeout(self._left_s(deadline))

    def _left_s(self, deadline: float) -> float:
        self._check_time()
        return max(0.001, min(deadline, self._until) - time.monotonic())

    def _check_time(self) -> None:
        if time.monotonic() >= self._until:
            raise TimeIsUpError("The time allowed was up before the server at %s had answered." % self.name)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read1(READ_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.broken(error, "") from error

    def parsed(self, text: bytes) -> object:
        """An object or a list from JSON. Raises ServerError, also of an error that is reported in it."""
        try:
            told = json.loads(text.decode("utf-8", errors="replace"))
        except (ValueError, RecursionError):
            raise ServerError(
                "The server at %s sent what is not JSON: %s" % (self.name, self.said(text[:80]))
            ) from None
        if isinstance(told, dict) and told.get("error"):
            raise ServerError("The server at %s reports an error: %s" % (self.name, self.said(message_in(text))))
        return told

    def does_not_stream(self, kind: str) -> ServerError:
        return ServerError("The server at %s does not stream: it answered with %s." % (self.name, self.said(kind)))

    def cut_short(self) -> ServerError:
        return ServerError("The server at %s closed the stream before its end." % self.name)

    def silent(self, seconds: float) -> ServerError:
        return ServerError("The server at %s sent nothing of use for %g s." % (self.name, seconds))

    def broken(self, error: Exception, path: str) -> ServerError:
        """What to say of a connection that breaks, in answer to `path`, or in the middle of an answer. TimeIsUpError
        where the time was up."""
        self._check_time()
        where = "in answer to " + path if path else "in mid-answer"
        if isinstance(error, socket.timeout):
            return ServerError("The server at %s said nothing for too long %s." % (self.name, where))
        return ServerError("The server at %s closed the connection %s: %s." % (self.name, where, self._reason(error)))

    def _reason(self, error: Exception) -> str:
        return self.said(reason_of(error))


class OpenConnection:
    """An open connection that nobody waits for: it takes and gives what it can at once. Raises ServerError."""

    def __init__(self, server: Server, opened: socket.socket) -> None:
        opened.setblocking(False)
        self._server, self._socket = server, opened

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, content: object) -> int:
        """How many bytes of it were taken."""
        try:
            return self._socket.send(content)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise self._server.broken(error, "") from error

    def receive(self) -> bytes | None:
        """What has come; None where nothing has, b"" where nothing will."""
        parts: list = []
        try:
            while True:
                parts.append(self._socket.recv(READ_BYTES))
                pending = getattr(self._socket, "pending", None)  # of TLS: taken off the wire, and not seen by a poll
                if not parts[-1] or pending is None or not pending():
                    break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b"".join(parts) or None
        except OSError as error:
            raise self._server.broken(error, "") from error
        return b"".join(parts)

    def close(self) -> None:
        self._socket.close()


def message_in(answer: bytes) -> str:
    """The message in an answer that says what is wrong: OpenAI's form, a plain one, or the text itself."""
    text = answer.decode("utf-8", errors="replace")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return text
    found = told.get("error", told) if isinstance(told, dict) else told
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found
    return found if isinstance(found, str) else json.dumps(found)


def reason_of(error: Exception) -> str:
    """An error's words in a sentence, without its number."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(words).rstrip(".").replace("\n", " ")[:SAID_LENGTH]


def free_port() -> int:
    """A port of the loopback device that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int, pids: list) -> bool:
    """Whether one of these processes listens on that TCP port: who answers there may be a stranger."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:  # noqa: PTH123
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        inodes |= {row[9] for row in rows if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port}
    wanted = {"socket:[%s]" % inode for inode in inodes}
    return any(wanted & open_files(pid) for pid in pids)


def open_files(pid: int) -> set:
    """What a process's descriptors stand for; empty where that may not be seen."""
    folder = "/proc/%d/fd" % pid
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(folder):  # noqa: PTH208
            with contextlib.suppress(OSError):  # closed since
                found.add(os.readlink(os.path.join(folder, descriptor)))  # noqa: PTH115, PTH118
    return found
