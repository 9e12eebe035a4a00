"""The wire: JSON lines from the runner to whoever started it, without ever making a timed request wait.

Every line is one object with `k`, its kind. sessions/disk/messages.py declares the messages of the job `measure`, and
the conductor checks them against that; what an engine returns is sent as it is. Jobs that measure nothing also send

 progress     phase, detail, done, total, unit
 result       result: {...}
"""

from __future__ import annotations

import errno
import json
import os
import select
import time

FLUSH_INTERVAL_NS = 50_000_000
WRITE_SIZE = 65_536


class ReaderGoneError(Exception):
    """The reader of the wire is gone, so the work is pointless."""


class Wire:
    """Lines into a pipe. Writing never blocks except in `drain`: what does not fit the pipe is kept and retried."""

    def __init__(self, descriptor: int, clock: object = time.perf_counter_ns) -> None:
        self.clock = clock
        self._descriptor = descriptor
        self._kept = bytearray()
        os.set_blocking(descriptor, False)

    def send(self, kind: str, /, **fields: object) -> None:
        """Write one line, or keep it if the pipe is full. Raises ReaderGoneError."""
        self.send_line(json.dumps({"k": kind, **fields}, separators=(",", ":"), allow_nan=False, default=str))

    def send_line(self, line: str) -> None:
        """Write one line that is JSON already."""
        self._kept += line.encode("ascii")
        self._kept += b"\n"
        self.push()

    def progress(
        self, phase: str, detail: str, done: int | None = None, total: int | None = None, unit: str = ""
    ) -> None:
        self.send("progress", phase=phase, detail=detail, done=done, total=total, unit=unit)

    def result(self, result: dict) -> None:
        self.send("result", result=result)

    def phase(self, name: str) -> None:
        self.send("phase", t=self.clock(), phase=name)

    def push(self) -> bool:
        """Write as much of the backlog as the pipe takes at once; True if none is left."""
        kept = self._kept
        while kept:
            try:
                written = os.write(self._descriptor, kept[:WRITE_SIZE])
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EBADF):
                    raise ReaderGoneError from error
                raise
            del kept[:written]
        return True

    def drain(self) -> None:
        """Wait until the reader has taken everything. Only for the end of a job. Raises ReaderGoneError."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        while not self.push():
            poller.poll()


class TokenStream:
    """The tokens of one request: timestamped as they arrive, sent as arrays at most every 50 ms.

    Called by an engine with the IDs that have just reached the host: `emit([id, ...])`; all of one call share its time.
    An ID that is not known is None. An engine for which fetching an ID is expensive calls `emit.mark(fetch)` instead
    when there is one more; one that gets text without IDs calls `emit.text(words)` for each piece, and at the end
    `emit.counted(tokens, prompt_tokens)`. One that gets text with IDs that nobody else can decode calls
    `emit.text(words, beside=True)` after `emit`.
    """

    def __init__(self, wire: Wire, request: int) -> None:
        self._wire = wire
        self._clock = wire.clock
        self._request = request
        self._arrived: list = []  # (time, sequence, ids), not sent yet; ids of a mark: None
        self._fetch: object = None
        self._sent: dict = {}
        self._next_flush = 0
        self._pieces: dict = {False: [], True: []}  # (time, text), not sent yet; True: beside tokens
        self._counted: int | None = None
        self.prompt_tokens: int | None = None

    def begin(self) -> int:
        """The request starts now: its t_0."""
        now = self._clock()
        self._next_flush = now + FLUSH_INTERVAL_NS
        return now

    def __call__(self, ids: list, sequence: int = 0) -> None:
        now = self._clock()
        self._arrived.append((now, sequence, ids[:]))  # all else waits for the flush: this is between two tokens
        if now >= self._next_flush:
            self.flush()

    def mark(self, fetch: object) -> None:
        """There is one more token of sequence 0 as of now; a flush gets the ids of those n since by `fetch(n)`."""
        now = self._clock()
        self._arrived.append((now, 0, None))
        self._fetch = fetch
        if now >= self._next_flush:
            self.flush()

    def text(self, words: str, beside: bool = False) -> None:
        """A piece of text has arrived, of one token or more, or beside tokens."""
        now = self._clock()
        self._pieces[beside].append((now, words))
        if now >= self._next_flush:
            self.flush()

    def counted(self, tokens: int, prompt_tokens: int | None) -> None:
        """How many tokens the text was, and the prompt, as whoever generated it has counted."""
        self._counted, self.prompt_tokens = tokens, prompt_tokens

    def flush(self) -> None:
        """Send what has not been sent. Exceptions of a `fetch` pass through, and its tokens are not sent."""
        for beside, pieces in self._pieces.items():
            if pieces:
                times, texts = zip(*pieces)
                self._wire.send("text", request=self._request, times=times, texts=texts, beside=beside)
                pieces.clear()
        arrived, self._arrived = self._arrived, []
        marks = sum(ids is None for _, _, ids in arrived)
        fetched = iter(self._fetch(marks) if marks else ())
        times: dict = {}
        tokens: dict = {}
        for moment, sequence, ids in arrived:
            ids = [next(fetched)] if ids is None else ids  # noqa: PLW2901
            times.setdefault(sequence, []).extend([moment] * len(ids))
            tokens.setdefault(sequence, []).extend(ids)
        for sequence, ids in tokens.items():
            sent = self._sent.setdefault(sequence, 0)
            if ids:
                self._wire.send_line(
                    '{"k":"tokens","request":%d,"sequence":%d,"index":%d,"times":[%s],"ids":[%s]}'
                    % (
                        self._request,
                        sequence,
                        sent,
                        ",".join(map(str, times[sequence])),
                        ",".join("null" if each is None else str(each) for each in ids),
                    )
                )
                self._sent[sequence] = sent + len(ids)
        self._next_flush = self._clock() + FLUSH_INTERVAL_NS

    def counts(self) -> dict:
        """{sequence: number of tokens so far}."""
        if self._counted is not None:
            return {0: self._counted}
        counts = dict(self._sent)
        for _, sequence, ids in self._arrived:
            counts[sequence] = counts.get(sequence, 0) + (1 if ids is None else len(ids))
        return counts
