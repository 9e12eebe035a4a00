"""One response of a server, taken piece by piece, each checked against what was asked for."""

from __future__ import annotations

from kasoku_engine import UnsupportedError
from kasoku_failure import ServerError
from kasoku_server_protocols import Piece

COUNTS = ("finish", "output_tokens", "prompt_tokens", "cached_prompt_tokens")


class ServerResponse:
    """The response to `asked`, (prompt ids, most tokens, stop ids, seed); the first is empty where the prompt is a text
    of which the session knows no ids.

    `emit` is the request's; `margins` is added to, where the protocol asks for them. What is wrong is a ServerError. A
    server that takes no stop ids, and went on after one, is `cut` there: there is no need to wait for what follows.
    """

    def __init__(self, protocol: object, said: object, asked: tuple, emit: object, margins: list | None = None) -> None:
        protocol.begin()
        prompt_ids, most, stop_token_ids, _ = asked
        self._protocol, self._said, self._prompt_ids = protocol, said, prompt_ids
        self._most, self._emit, self._margins = most, emit, margins
        self._stops = frozenset(stop_token_ids)
        self._last: int | None = None
        self.cut = False
        # the session has no tokeniser of the server's own model; the greedy pass takes IDs alone
        self._undecodable = not prompt_ids and margins is None
        self._whole, self._pieces, self.tokens = Piece(), 0, 0

    def take(self, event: object) -> None:
        """What one event of the stream brings, emitted at once."""
        piece = self._protocol.take(event)
        model = self._protocol.model
        if piece.model not in (None, model):
            raise ServerError("The server answers for the model %s, not %s." % (self._said(piece.model), model))
        if piece.ids:
            self._check_ids(piece.ids)
            if not self._protocol.takes_stop_ids:
                self._stop_at(piece)
        if piece.ids:
            self._last = piece.ids[-1]
            self.tokens += len(piece.ids)
            self._check_length(self.tokens)
            self._emit(piece.ids)
            if self._undecodable and piece.text:
                self._emit.text(piece.text, beside=True)
            if self._margins is not None:
                self._margins += piece.margins or ()
        elif piece.text and piece.ids is None and not self.cut:
            self._pieces += 1
            self._check_length(self._pieces)
            self._emit.text(piece.text)
        for name in COUNTS:
            if getattr(piece, name) is not None:
                setattr(self._whole, name, getattr(piece, name))

    def end(self) -> Piece:
        """What the server has counted, once the stream is complete, checked against what came."""
        if self.cut:
            self._whole.finish, self._whole.output_tokens = "eos", None
        self._check_prompt()
        self._check_count()
        if not self.tokens:
            self._emit.counted(self._whole.output_tokens, self._whole.prompt_tokens)
        return self._whole

    @property
    def ended_elsewhere(self) -> bool:
        """Whether it ended at a token that is none of those at which it was to end."""
        known = bool(self._stops) and self._last is not None
        return known and self._whole.finish == "eos" and self._last not in self._stops

    def _stop_at(self, piece: Piece) -> None:
        """Leave out what comes after an id at which the response is over."""
        if self._last in self._stops:
            piece.ids, self.cut = [], True
            return
        for place, token in enumerate(piece.ids, 1):
            if token in self._stops and place < len(piece.ids):
                piece.ids, self.cut = piece.ids[:place], True
                return

    def _check_length(self, count: int) -> None:
        if count > self._most:
            raise ServerError("The server went on after the %d tokens that it was asked for." % self._most)

    def _check_ids(self, ids: list) -> None:
        if not all(token is None or (type(token) is int and 0 <= token < 2**31) for token in ids):
            raise ServerError("The server sent token IDs that are none.")

    def _check_prompt(self) -> None:
        """A server that counts another number of tokens than it was sent does not read them as what they are."""
        told, ids = self._whole.prompt_tokens, self._prompt_ids
        if self._protocol.takes_ids and ids and told is not None and told != len(ids):
            raise ServerError(
                "The server counts %d tokens in a prompt of %d: it has another model, or adds its own."
                % (told, len(ids))
            )
        cached, length = self._whole.cached_prompt_tokens, len(ids) if ids else told
        if cached is not None and length is not None and cached > length:
            raise ServerError("The server says that it reused %d tokens of a prompt of %d." % (cached, length))

    def _check_count(self) -> None:
        counted, got, pieces = self._whole.output_tokens, self.tokens, self._pieces
        if got:
            if counted is not None and counted != got:
                raise ServerError("The server counts %d tokens, but sent %d." % (counted, got))
            if pieces:
                raise ServerError("The server sent the IDs of some of its tokens only.")
            return
        if counted is None and pieces:
            raise UnsupportedError("The server says neither the IDs nor the number of its tokens.")
        if counted is None or counted == 0:
            raise ServerError("The server generated nothing.")
        if counted > self._most:
            raise ServerError("The server generated %d tokens where %d were asked for." % (counted, self._most))
        if not pieces:
            raise ServerError("The server counts %d tokens, but sent none of them." % counted)
        if pieces > counted:
            raise ServerError("The server sent %d pieces of text, but counts %d tokens." % (pieces, counted))
