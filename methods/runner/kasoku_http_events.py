"""What a server streams, taken apart as its bytes come: the framing of HTTP/1.1, and the events in it.

Nothing here waits or reads: whoever has the connection hands over what has come.
"""

from __future__ import annotations

import re
from email.parser import BytesParser

from kasoku_failure import ServerError

HEAD_BYTES = 1 << 16
LINE_BYTES = 1 << 20
REFUSAL_BYTES = 1 << 16
OK = 200
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: |$)")


class Events:
    """Server-sent events, at most so many bytes of them. `said_by` is the server, for its words.

    They are `over` with the mark that the stream is complete: `data: [DONE]`, or an object whose `stop` is true.
    """

    def __init__(self, said_by: object, most_bytes: int) -> None:
        self._server, self._most = said_by, most_bytes
        self._rest, self._data, self._size = b"", [], 0
        self.over = False

    def feed(self, part: bytes) -> object:
        """The JSON objects that these bytes complete, one after another. Raises ServerError."""
        self._size += len(part)
        if self._size > self._most:
            raise ServerError(
                "The server at %s floods: over %.1f MB for one response." % (self._server.name, self._most / 1e6)
            )
        *lines, self._rest = (self._rest + part).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            raise ServerError("The server at %s sent a line of over %d MB." % (self._server.name, LINE_BYTES >> 20))
        for line in lines:
            line = line.rstrip(b"\r")  # noqa: PLW2901
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                event, self._data = b"\n".join(self._data), []
                if event == b"[DONE]":
                    self.over = True
                    return
                told = self._server.parsed(event)
                yield told
                if isinstance(told, dict) and told.get("stop") is True:
                    self.over = True
                    return
            # what is neither is another field of the event, or a comment to keep the connection open


class Answer:
    """The answer to one request: its head, then the events of its body.

    `over` once the events are; `complete` once the framing says that the body is too, so that another request may go
    over the same connection, if the server keeps it open: `reusable`.
    """

    def __init__(self, said_by: object, path: str, most_bytes: int) -> None:
        self._server, self._path = said_by, path
        self._events = Events(said_by, most_bytes)
        self._head, self._body, self._refusal = b"", None, b""
        self._status, self._location, self._keeps = 0, "", True
        self.complete = False

    @property
    def begun(self) -> bool:
        """Whether any of it has come."""
        return bool(self._head) or self._body is not None

    @property
    def over(self) -> bool:
        return self._events.over

    @property
    def reusable(self) -> bool:
        return self.over and self.complete and self._keeps

    def feed(self, part: bytes) -> object:
        """The JSON objects that these bytes complete. Raises ServerError, of a refusal with its words."""
        if self._body is None:
            self._head += part
            part = self._after_head()
            if self._body is None:
                return
        content = self._body.feed(part)
        self.complete = self._body.over
        if self._status != OK:
            self._refusal = (self._refusal + content)[:REFUSAL_BYTES]
            if self.complete:
                raise self._refused()
        elif content and not self.over:
            yield from self._events.feed(content)
        if self.complete and not self.over:
            raise self._server.cut_short()

    def end(self) -> ServerError:
        """What to say where the connection is closed before the answer is over."""
        return self._refused() if self._body is not None and self._status != OK else self._server.cut_short()

    def _after_head(self) -> bytes:
        """What comes after the head, once that is there. An interim answer (100) is passed over."""
        while True:
            head, separator, rest = self._head.partition(b"\r\n\r\n")
            if len(head) > HEAD_BYTES:
                raise ServerError(
                    "The server at %s answered with over %d kB of headers." % (self._server.name, HEAD_BYTES >> 10)
                )
            if not separator:
                return b""
            line, _, fields = head.partition(b"\r\n")
            status = STATUS_LINE.match(line)
            if status is None:
                raise ServerError("The server at %s does not answer in HTTP/1.1." % self._server.name)
            self._head = rest
            if status[2][:1] != b"1":
                break
        headers = BytesParser().parsebytes(fields, headersonly=True)
        self._status, self._location = int(status[2]), headers.get("Location", "")
        self._keeps = status[1] == b"1" and "close" not in headers.get("Connection", "").lower()
        if 300 <= self._status < 400 or self._status in (401, 403):
            raise self._refused()
        if self._status == OK and headers.get_content_type() != "text/event-stream":
            raise self._server.does_not_stream(headers.get_content_type())
        if "chunked" in headers.get("Transfer-Encoding", "").lower():
            self._body = Chunks(self._server)
        else:
            length = headers.get("Content-Length", "").strip()
            self._body = Plain(int(length) if length.isdigit() else None)
        return rest

    def _refused(self) -> ServerError:
        return self._server.refused(self._path, self._status, self._location, self._refusal)


class Plain:
    """A body of a length, or up to the end of the connection."""

    def __init__(self, length: int | None) -> None:
        self._left = length

    @property
    def over(self) -> bool:
        return self._left == 0

    def feed(self, part: bytes) -> bytes:
        if self._left is None:
            return part
        content = part[: self._left]
        self._left -= len(content)
        return content


class Chunks:
    """A body in chunks, each with its size before it; one of size 0 is the last."""

    def __init__(self, said_by: object) -> None:
        self._server, self._rest, self._left = said_by, b"", 0  # `_left` of the present chunk, its line end included
        self._trailer = False
        self.over = False

    def feed(self, part: bytes) -> bytes:
        rest, content = self._rest + part, []
        while rest and not self.over:
            if self._left > 2:
                piece = rest[: self._left - 2]
                content.append(piece)
                rest, self._left = rest[len(piece) :], self._left - len(piece)
            elif self._left:
                cut = min(self._left, len(rest))
                rest, self._left = rest[cut:], self._left - cut
            else:
                line, end, after = rest.partition(b"\n")
                if not end:
                    break
                rest = after
                self._take_line(line.strip())
        self._rest = rest
        if len(rest) > HEAD_BYTES:
            raise self._sizeless()
        return b"".join(content)

    def _take_line(self, line: bytes) -> None:
        if self._trailer:
            self.over = not line
            return
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise self._sizeless() from None
        if size < 0:
            raise self._sizeless()
        self._trailer = size == 0
        self._left = size + 2 if size else 0

    def _sizeless(self) -> ServerError:
        return ServerError("The server at %s sent chunks without a size." % self._server.name)
