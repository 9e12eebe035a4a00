"""Token IDs to text and back, with a model's tokenizer.json and the added tokens of its tokenizer_config.json.

The text is raw: whoever displays it escapes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from methods.base.bounded_read import ReadError, read_bytes
from methods.text.tokeniser_config import TokeniserConfigError, tokeniser_config

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
TEKKEN = "tekken.json"
LARGEST = 256_000_000
UNDECIDED = "\N{REPLACEMENT CHARACTER}"
# A character has at most four bytes, so after twice as many tokens without one the bytes are no UTF-8 and are let go.
LONGEST_WAIT = 8
LONGEST_WINDOW = 32


class TokeniserError(Exception):
    """The tokeniser cannot be used. The text is one sentence for the user."""


def why_none(folder: Path) -> str:
    """The part of a sentence that says why a folder without tokenizer.json takes no text."""
    if os.path.isfile(folder / TEKKEN):
        return f"has its tokeniser as {TEKKEN} alone, which Mistral's own library reads, and no {FILE}"
    return "has no tokeniser"


class Tokeniser:
    """A model's tokeniser, from its folder, with the ids that transformers gives.

    Raises TokeniserError if tokenizer.json is missing, or it or one of the files beside it is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / FILE
        if not os.path.lexists(path):
            raise TokeniserError(f"{folder} has no {FILE}.")
        try:
            content = read_bytes(path, LARGEST, str(path)).decode()
            config = tokeniser_config(folder)
        except UnicodeDecodeError as error:
            raise TokeniserError(f"{path} cannot be read: {error}.") from error
        except (ReadError, TokeniserConfigError) as error:
            raise TokeniserError(str(error)) from error
        self._tokenizer = _parsed(path, content)
        config.complete(self._tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = frozenset(index for index, token in added.items() if token.special)

    @property
    def vocab_size(self) -> int:
        """Ids that have a token, added ones included; a model's own number can be larger, where it pads."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """The IDs of `text` and nothing else: no BOS, no EOS; special tokens written out in it become their IDs."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def beginning(self) -> list[int]:
        """The IDs, such as a BOS, that the tokeniser puts before a text by itself; often none."""
        whole, bare = list(self._tokenizer.encode("a").ids), self.encode("a")
        places = (place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
        return whole[: next(places, 0)]

    def token(self, index: int) -> str:
        """The token of an id, as the vocabulary has it."""
        return self._tokenizer.id_to_token(index) or ""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a whole sequence, special tokens left out. IDs without a token add nothing."""
        return str(self._tokenizer.decode(self.textual(ids), skip_special_tokens=True))

    def textual(self, ids: Iterable[int]) -> list[int]:
        """The ids among these that stand for text."""
        return [index for index in ids if index not in self._special and 0 <= index < 1 << 32]

    def stream(self) -> StreamDecoder:
        """A decoder for IDs that arrive one by one."""
        return StreamDecoder(self)


class StreamDecoder:
    """Text as its IDs arrive: what is returned is never taken back and holds no partial character.

    Only a window of the last ids is decoded, so a token costs the same however long the text is. The pieces of a
    sequence, with `finish()`, add up to what `Tokeniser.decode` makes of it.
    """

    def __init__(self, tokeniser: Tokeniser) -> None:
        self._tokeniser = tokeniser
        self._window: list[int] = []
        self._given = 0  # characters of the window's text that are out already
        self._waiting = 0  # ids since the last that gave any text

    def feed(self, ids: Iterable[int]) -> str:
        """The text completed by these IDs; empty while a character is still incomplete."""
        return "".join(map(self._fed, self._tokeniser.textual(ids)))

    def finish(self) -> str:
        """What was held back, when no ID follows."""
        rest = self._tokeniser.decode(self._window)[self._given :]
        self._window, self._given, self._waiting = [], 0, 0
        return rest

    def _fed(self, index: int) -> str:
        self._window.append(index)
        self._waiting += 1
        text = self._tokeniser.decode(self._window)
        decided = len(text.rstrip(UNDECIDED))
        if decided <= self._given and self._waiting >= LONGEST_WAIT:
            decided = len(text) - 1 if text.endswith(UNDECIDED) else len(text)
        if decided <= self._given:
            return ""
        new = text[self._given : decided]
        self._given = decided
        fresh, self._waiting = self._waiting, 0
        undecided = len(text) - decided
        if undecided == 0 and len(self._window) > fresh:
            self._shrink(fresh, 0)
        elif len(self._window) > LONGEST_WINDOW:
            self._shrink(LONGEST_WAIT, undecided)
        return new

    def _shrink(self, kept: int, undecided: int) -> None:
        """Go on with the last ids alone: enough for what comes to be decoded as if all were there."""
        window = self._window[-kept:]
        text = self._tokeniser.decode(window)
        if text:
            self._window, self._given = window, len(text) - undecided


def _parsed(path: Path, content: str) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(content)
    except BaseException as error:  # a panic of the library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise TokeniserError(
            f"{path} is not a readable tokeniser ({reason}); fetch or copy the model again."
        ) from error
