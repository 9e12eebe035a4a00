"""Prompts: the user's text, tokenised once, so that every method gets identical token IDs."""

from __future__ import annotations

import codecs
import hashlib
import random
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from methods.base.bounded_read import ReadError, read_bytes, read_stream
from methods.base.user_path import named_path
from methods.text.chat_template import TemplateError, chat_template, special_tokens, user_turn
from methods.text.tokeniser import Tokeniser, TokeniserError, why_none

if TYPE_CHECKING:
    from methods.models.model import Model

Mode = Literal["raw", "chat"]

DEFAULT = "Explain in a few paragraphs why the sky is blue during the day and red at sunset."
ARTICLE = "今日は良い天気ですね。このあとの予定は"
SYNTHETIC_TOKENS = 32
LARGEST_FILE = 16_000_000
BYTE_ORDER_MARK = "\ufeff"

# Repeated and cut for --prompt-tokens; written for this, so that no model has it by heart.
FILLER = (
    "The ferry leaves the harbour at a quarter past six, long before the market opens. Two fishermen load crates of "
    "mackerel while the captain checks the weather: a light wind from the west, good sight, rain after noon. On the "
    "other shore a school teacher waits with eleven children who will spend the day counting seabirds on the cliffs. "
    "Each child has a notebook, a pencil and a sandwich. By evening they will have seen four hundred and twelve "
    "guillemots, nine puffins and one very surprised seal. "
)


class PromptError(Exception):
    """The prompt cannot be used. The text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The IDs that every method gets. `text` is the user's text, `rendered` what was encoded: both None if the
    IDs are random. `template`: whether the model's chat template was applied, `dated`: whether that asked for the date
    or the time; `digest` is over the IDs."""

    ids: tuple[int, ...]
    text: str | None
    rendered: str | None
    template: bool
    dated: bool
    digest: str


def read_prompt(argument: str, stdin: TextIO) -> str:
    """The text given by `--prompt`: literally, `@FILE`'s content, or with `-` all of stdin. Raises PromptError."""
    try:
        if argument == "-":
            where = "standard input"
            what = f"The prompt on {where}"
            text = _decoded(read_stream(stdin.buffer, LARGEST_FILE, what), what)
        elif argument.startswith("@"):
            path = named_path(argument[1:])
            where = f"the file {path}"
            text = read_text(path, f"The prompt file {path}")
        else:
            where, text = "--prompt", argument
    except ReadError as error:
        raise PromptError(str(error)) from error
    if not normalised(text).strip():
        raise PromptError(f"The prompt is empty: {where} contains no text.")
    return normalised(text)


def read_text(path: Path, what: str) -> str:
    """The text of a file, `what` in a sentence, as a prompt's is read. Raises PromptError."""
    try:
        return normalised(_decoded(read_bytes(path, LARGEST_FILE, what, streams=True), what))
    except ReadError as error:
        raise PromptError(str(error)) from error


def normalised(text: str) -> str:
    """A prompt as it is measured, wherever it comes from: no byte order mark, and line feeds as line ends."""
    return text.lstrip(BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(content: bytes, what: str) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PromptError(f"{what} is not UTF-8 text but UTF-16; save it as UTF-8 (in PowerShell: -Encoding utf8).")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PromptError(f"{what} is not UTF-8 text; save it as UTF-8.") from error


def make(
    model: Model,
    text: str | None = None,
    mode: Mode | None = None,
    *,
    tokens: int | None = None,
    max_new_tokens: int = 0,
    seed: int = 0,
) -> Prompt:
    """The prompt for `model`, checked against its context together with `max_new_tokens`. Raises PromptError.

    Raw is the text's IDs alone: no BOS, no special tokens, as in the article. Chat renders the model's template,
    which writes its own BOS if the model wants one. By default a model with a template gets it. With `tokens`
    the prompt has exactly that many IDs: `text`, or a built-in text, repeated and truncated; random, seeded by `seed`,
    if the model has no tokeniser.
    """
    if tokens is not None and tokens < 1:
        raise PromptError(f"A prompt of {tokens} tokens cannot be made; --prompt-tokens must be at least 1.")
    if tokens is not None and mode == "chat":
        raise PromptError("--prompt-tokens makes a raw prompt of an exact length, so it excludes --chat.")
    _check_length(tokens or 1, max_new_tokens, model)
    if not model.has_tokeniser:
        prompt = _random(model, text, mode, tokens, seed)
    else:
        try:
            prompt = _written(model, text, mode, tokens)
        except (TokeniserError, TemplateError) as error:
            raise PromptError(str(error)) from error
    _check_length(len(prompt.ids), max_new_tokens, model)
    return prompt


def digest_of(ids: tuple[int, ...]) -> str:
    """SHA-256 over the IDs in decimal, separated by spaces."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()


def _random(model: Model, text: str | None, mode: Mode | None, tokens: int | None, seed: int) -> Prompt:
    if text is not None or mode == "chat":
        raise PromptError(
            f"{model.name} {why_none(model.folder)}, so it cannot take text; use --prompt-tokens N for N random tokens."
        )
    if not model.vocab_size:
        raise PromptError(f"{model.name} does not state its vocabulary size, so no random prompt can be drawn for it.")
    allowed = [index for index in range(model.vocab_size) if index not in model.eos_token_ids]
    ids = tuple(random.Random(seed).choices(allowed, k=tokens or SYNTHETIC_TOKENS))  # noqa: S311 - a prompt, no secret
    return Prompt(ids, None, None, False, False, digest_of(ids))


def _written(model: Model, text: str | None, mode: Mode | None, tokens: int | None) -> Prompt:
    written = text if text is not None else FILLER if tokens is not None else DEFAULT
    if not written.strip():
        raise PromptError("The prompt is empty; give it some text.")
    try:
        written.encode()
    except UnicodeEncodeError as error:
        raise PromptError("The prompt is not UTF-8 text; put it into a file and use @FILE.") from error
    tokeniser = Tokeniser(model.folder)
    template = chat_template(model.folder) if mode != "raw" and tokens is None else None
    if mode == "chat" and template is None:
        raise PromptError(f"{model.name} has no chat template; use --raw.")
    full, dated = written, False
    if template is not None:
        turn = user_turn(template, written, special_tokens(model.folder))
        full, dated = turn.text, turn.dated
    ids = tokeniser.encode(full)
    if not ids:
        raise PromptError("The model's tokeniser turns the prompt into no tokens; use other text.")
    _check_vocabulary(ids, tokeniser, model)
    if tokens is not None:
        ids = list(islice(cycle(ids), tokens))
        full = tokeniser.decode(ids)
    return Prompt(tuple(ids), written, full, template is not None, dated, digest_of(tuple(ids)))


def _check_vocabulary(ids: list[int], tokeniser: Tokeniser, model: Model) -> None:
    """Refuse what the embedding has no row for: engines crash at it, or read beside it."""
    if model.vocab_size is None:
        return
    beyond = next((index for index in ids if index >= model.vocab_size), None)
    if beyond is not None:
        raise PromptError(
            f"Token {beyond} {tokeniser.token(beyond)} of the prompt is not in {model.name}'s vocabulary of "
            f"{model.vocab_size:,}: its tokeniser has tokens that its weights lack; use a prompt without it."
        )


def _check_length(prompt_tokens: int, max_new_tokens: int, model: Model) -> None:
    if model.context_length is None or prompt_tokens + max_new_tokens <= model.context_length:
        return
    ways = []
    if (shorter := model.context_length - max_new_tokens) > 0:
        ways.append(f"shorten the prompt to {shorter} tokens")
    if (fewer := model.context_length - prompt_tokens) > 0:
        ways.append(f"lower --max-new-tokens to {fewer}")
    raise PromptError(
        f"A prompt of {prompt_tokens} tokens and {max_new_tokens} new ones do not fit {model.name}'s context of "
        f"{model.context_length}; {' or '.join(ways) or 'shorten both'}."
    )
