"""Many requests at one server at once: a connection for each, and one loop that takes whatever comes on any of them."""

from __future__ import annotations

import contextlib
import resource
import selectors
import sys
import time

from kasoku_failure import ServerError
from kasoku_http_events import Answer
from kasoku_server_response import ServerResponse

LOOK_S = 1.0
FLUSH_S = 0.05
SPARE = 2  # connections that wait for the requests of an open loop
KEPT_S = 1.0  # a connection that was idle for longer may be closed by the server as the next request is sent
SILENT_SHARE = 0.9  # of the session's deadline, after which the block would end, with all that is in flight


class ServerServing:
    """The part of `ServerEngine` that serves a load."""

    def cannot_serve(self, point: object) -> str:
        return "A server is given no cache to begin with: each request is a whole prompt." if point.depth else ""

    def serve(self, load: object) -> None:
        if load.point.most == 1:
            super().serve(load)
            return
        Serving(self, load).run()


class Exchange:
    """A request and its answer, over a connection of their own; `again` while that was used before."""

    __slots__ = ("again", "answer", "connection", "content", "newest", "request", "response", "unsent")

    def __init__(self, request: object, answer: Answer, response: object, content: bytes) -> None:
        self.request, self.answer, self.response, self.content = request, answer, response, content
        self.connection: object = None
        self.unsent, self.newest, self.again = memoryview(content), time.monotonic(), False


class Serving:
    """The requests of a load, each from its beginning to its end. What fails by itself fails alone."""

    def __init__(self, engine: object, load: object) -> None:
        self._engine, self._load, self._server = engine, load, engine.server
        self._selector = selectors.DefaultSelector()
        self._idle: list = []  # (since when, connection, whether it was used before)
        self._exchanges: dict = {}  # connection -> Exchange; of one whose response is over until its framing is, too
        self._next_look = 0.0
        self._ended = self._lost = 0  # of those that were lost, since the last that ended well

    def run(self) -> None:
        """Until all have ended. Raises ServerError where the server has died, or none of its answers is one."""
        allow_many_files()
        try:
            while not self._load.over:
                self._open_ahead()
                self._take()
                self._attend()
        finally:
            for connection in [*self._exchanges, *(connection for _, connection, _ in self._idle)]:
                connection.close()
            self._selector.close()

    def _open_ahead(self) -> None:
        """Connections for the requests that begin next, before their time does."""
        oldest = time.monotonic() - KEPT_S
        while self._idle and self._idle[0][0] < oldest:
            self._idle.pop(0)[1].close()
        if self._load.wait_s() is None:
            return
        coming = SPARE if self._load.point.rate else len(self._load.coming())
        while len(self._idle) < coming:
            self._idle.append((time.monotonic(), self._server.open(), False))

    def _take(self) -> None:
        """Begin those that are due: a batch at once, else one by one, so that none waits for the others to be sent."""
        most = None if self._load.point.batch else 1
        while requests := self._load.take(most):
            for request in requests:
                self._begin(request)

    def _begin(self, request: object) -> None:
        engine = self._engine
        protocol = engine.new_protocol()
        asked = (request.prompt_ids, request.max_new_tokens, request.stop_token_ids, request.seed)
        content = self._server.posted(protocol.path, engine.body_of(protocol, asked))
        response = ServerResponse(protocol, self._server.said, asked, self._load.stream_of(request))
        answer = Answer(self._server, protocol.path, engine.most_bytes(request.max_new_tokens))
        self._start(Exchange(request, answer, response, content))

    def _start(self, exchange: Exchange) -> None:
        """Send its request, over a connection that is open already if there is one."""
        try:
            _, connection, exchange.again = self._idle.pop() if self._idle else (0.0, self._server.open(), False)
        except ServerError as error:
            self._lose(exchange.request, error)
            return
        exchange.connection, exchange.unsent = connection, memoryview(exchange.content)
        self._exchanges[connection] = exchange
        self._selector.register(connection, selectors.EVENT_READ)
        self._send(exchange)

    def _attend(self) -> None:
        """What has come by now, or within the time until the next request is due."""
        wait_s = self._load.wait_s()
        if not self._exchanges:
            time.sleep(wait_s or 0.0)
            return
        ready = self._selector.select(FLUSH_S if wait_s is None else min(wait_s, FLUSH_S))
        for key, _ in ready:
            exchange = self._exchanges[key.fileobj]
            if exchange.unsent:
                self._send(exchange)
            self._receive(exchange)
        if not ready:
            self._load.flush()
        if time.monotonic() > self._next_look:
            self._check_silent()

    def _send(self, exchange: Exchange) -> None:
        try:
            sent = exchange.connection.send(exchange.unsent)
        except ServerError as error:
            self._break(exchange, error)
            return
        exchange.unsent = exchange.unsent[sent:]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if exchange.unsent else 0)
        if self._selector.get_key(exchange.connection).events != wanted:
            self._selector.modify(exchange.connection, wanted)

    def _receive(self, exchange: Exchange) -> None:
        if exchange.connection not in self._exchanges:
            return
        response, answer = exchange.response, exchange.answer
        try:
            part = exchange.connection.receive()
            if part is None:
                return
            if part:
                for told in answer.feed(part):
                    exchange.newest = time.monotonic()
                    response.take(told)
                    if response.cut:
                        break
            elif not answer.over:
                raise answer.end()
            if (answer.over or response.cut) and exchange.request is not None:
                self._end(exchange, response.end())
        except ServerError as error:
            self._break(exchange, error)
            return
        if response.cut or (answer.over and (answer.complete or not part)):
            self._let_go(exchange)

    def _end(self, exchange: Exchange, whole: object) -> None:
        request, exchange.request = exchange.request, None
        request.cached_prompt_tokens = whole.cached_prompt_tokens
        self._engine.note(exchange.response, None if request.warmup else whole)
        self._load.end(request, whole.finish)
        self._ended, self._lost = self._ended + 1, 0

    def _let_go(self, exchange: Exchange) -> None:
        """The connection is free for another request, where the server keeps it open."""
        del self._exchanges[exchange.connection]
        self._selector.unregister(exchange.connection)
        if exchange.answer.reusable and self._engine.keeps_connections:
            self._idle.append((time.monotonic(), exchange.connection, True))
        else:
            exchange.connection.close()

    def _break(self, exchange: Exchange, error: ServerError) -> None:
        """The connection is of no more use; a request that was not over is lost."""
        del self._exchanges[exchange.connection]
        self._selector.unregister(exchange.connection)
        exchange.connection.close()
        if exchange.again and not exchange.answer.begun:
            self._start_again(exchange)
        elif exchange.request is not None:
            self._lose(exchange.request, error)

    def _start_again(self, exchange: Exchange) -> None:
        """The server closes a connection after a response without saying so: each request has a new one from now on."""
        self._engine.keeps_connections = False
        for place, (_, connection, used) in reversed([*enumerate(self._idle)]):
            if used:
                connection.close()
                del self._idle[place]
        self._start(exchange)

    def _lose(self, request: object, error: ServerError) -> None:
        """Raises what is wrong where the server has died, or one after another of those in flight is lost."""
        sys.stderr.write("Request %d: %s\n" % (request.number, error))
        self._load.fail(request, str(error))
        self._lost += 1
        self._engine.say_if_dead()
        if self._lost > self._load.point.most or (self._load.over and not self._ended):
            raise error

    def _check_silent(self) -> None:
        now = time.monotonic()
        self._next_look = now + LOOK_S
        for exchange in list(self._exchanges.values()):
            if now - exchange.newest > self._engine.silent_s:
                exchange.again = False  # it was heard, and not answered
                self._break(exchange, self._server.silent(self._engine.silent_s))


def allow_many_files() -> None:
    """As many descriptors as this process may have: each connection is one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
