"""What tokenizer_config.json and the older files beside it add to a tokenizer.json, as transformers reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from methods.base.bounded_read import ReadError
from methods.base.json_file import read_object_if_there

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

FILE: Final = "tokenizer_config.json"
NAMED: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
EXTRA: Final = ("extra_special_tokens", "additional_special_tokens")  # the newer name wins
FLAGS: Final = ("lstrip", "rstrip", "single_word", "normalized", "special")


class TokeniserConfigError(Exception):
    """One of the files cannot be used. The text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class TokeniserConfig:
    """`content` is tokenizer_config.json; where that does not list the added tokens, with what special_tokens_map.json
    says, and `older` are the ids of added_tokens.json by token."""

    content: Mapping[str, object]
    older: Mapping[str, object]

    def special_tokens(self) -> dict[str, str]:
        """`bos_token`, `eos_token` and the like, as templates name them."""
        found = {name: _text(value) for name, value in self.content.items() if name.endswith("_token")}
        return {name: text for name, text in found.items() if text is not None}

    def complete(self, tokenizer: Tokenizer) -> None:
        """Give the tokenizer the added tokens that it lacks, in transformers' order, which decides their ids."""
        present = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
        named = set(self._named())
        lacking = [token for token in self._listed(named) if repr(token) not in present]
        known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        known |= {token.content for token in lacking}
        for token in self._special():
            if token.content not in known:
                known.add(token.content)
                lacking.append(token)
        tokenizer.add_tokens(lacking)
        tokenizer.encode_special_tokens = self.content.get("split_special_tokens") is True

    def _listed(self, named: set[str]) -> Iterator[AddedToken]:
        """The added tokens that are listed with their ids, by id."""
        found: dict[int, AddedToken] = {}
        decoder = self.content.get("added_tokens_decoder")
        for index, value in decoder.items() if isinstance(decoder, dict) else ():
            if str(index).isdecimal() and (token := _token(value, special=False)) is not None:
                if token.content in named:
                    token.special = True
                found[int(index)] = token
        for text, index in self.older.items():
            if isinstance(index, int):
                special = text in named
                token = _token({"content": text, "normalized": not special}, special)
                if token is not None:
                    found.setdefault(index, token)
        yield from (found[index] for index in sorted(found))

    def _named(self) -> Iterator[str]:
        yield from (text for name in NAMED if (text := _text(self.content.get(name))))

    def _special(self) -> Iterator[AddedToken]:
        """The special tokens that are named or listed without an id."""
        extra = next((value for name in EXTRA if (value := self.content.get(name))), ())
        others = extra.values() if isinstance(extra, dict) else extra if isinstance(extra, list) else ()
        model_specific = [
            value for name, value in self.content.items() if name.endswith("_token") and name not in NAMED
        ]
        for value in (*(self.content.get(name) for name in NAMED), *model_specific, *others):
            if (token := _token(value, special=True)) is not None:
                yield token


def tokeniser_config(folder: Path) -> TokeniserConfig:
    """Of the model in `folder`; empty where it has none. Raises TokeniserConfigError."""
    try:
        content = read_object_if_there(folder / FILE)
        if "added_tokens_decoder" in content:
            return TokeniserConfig(content, {})
        content |= read_object_if_there(folder / "special_tokens_map.json")
        return TokeniserConfig(content, read_object_if_there(folder / "added_tokens.json"))
    except ReadError as error:
        raise TokeniserConfigError(str(error)) from error


def _text(value: object) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _token(value: object, special: bool) -> AddedToken | None:
    """A token as the files write it: its text, or a table of it and its flags."""
    from tokenizers import AddedToken

    content = _text(value)
    if not content:
        return None
    flags = {name: flag for name in FLAGS if isinstance(value, dict) and isinstance(flag := value.get(name), bool)}
    return AddedToken(content, **{"special": special, **flags})
