"""A model's chat template: found in its folder and rendered in Jinja's sandbox by a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from methods.base.bounded_read import ReadError, read_bytes
from methods.base.json_file import read_object_if_there
from methods.text.template_sandbox import CPU_SECONDS
from methods.text.tokeniser_config import TokeniserConfigError, tokeniser_config

SANDBOX: Final = Path(__file__).with_name("template_sandbox.py")
PATIENCE_S: Final = 60  # on the clock on the wall: other work may hold the process up
NEEDED_VARIABLES: Final = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")  # to find Python's own and Jinja
LARGEST: Final = 4_000_000
OTHER_WORDS: Final = "4f1c9a"  # in no template

Message = Mapping[str, object]


class TemplateError(Exception):
    """The template cannot be used. The text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompt that a template renders; `dated`: it asked for the date or the time."""

    text: str
    dated: bool


def chat_template(folder: Path) -> str | None:
    """The template in `folder`, wherever a version of transformers put it; None if the model has none.

    Raises TemplateError where there is one and it cannot be read, or several and none is the default.
    """
    try:
        if os.path.lexists(path := folder / "chat_template.jinja"):
            return _decoded(path)
        if others := sorted(path.stem for path in (folder / "additional_chat_templates").glob("*.jinja")):
            raise _no_default(others)
        for content in (read_object_if_there(folder / "chat_template.json"), tokeniser_config(folder).content):
            found = content.get("chat_template")
            if isinstance(found, str):
                return found
            if isinstance(found, list) and found:
                named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
                if isinstance(template := named.get("default"), str):
                    return template
                raise _no_default(sorted(map(str, named)))
    except (ReadError, TokeniserConfigError, OSError) as error:
        raise TemplateError(f"The model's chat template cannot be read: {error} Fix it, or use --raw.") from error
    return None


def has_chat_template(folder: Path) -> bool:
    """Whether the model has one, be it readable or not."""
    try:
        return chat_template(folder) is not None
    except TemplateError:
        return True


def special_tokens(folder: Path) -> dict[str, str]:
    """`bos_token`, `eos_token` and the like, as templates name them. Raises TemplateError."""
    try:
        return tokeniser_config(folder).special_tokens()
    except TokeniserConfigError as error:
        raise TemplateError(str(error)) from error


def user_turn(template: str, text: str, special: Mapping[str, str]) -> Rendered:
    """The prompt that `template` renders from the user's `text`, up to the assistant's turn. Raises TemplateError.

    A template that has no use for a text gets it as the list of parts that some want; one that still leaves it out, or
    changes it, is refused.
    """
    other = OTHER_WORDS if text != OTHER_WORDS else OTHER_WORDS[::-1]
    reasons = []
    for content in (lambda said: said, lambda said: [{"type": "text", "text": said}]):
        (result, differing), dated = _results(template, [_chat(content(said)) for said in (text, other)], special)
        full = result.get("text")
        if full is None:
            reasons.append(result["error"])
        elif full != differing.get("text") and _holds(full, text):
            return Rendered(full, dated)
    if len(reasons) == 2:
        raise _refused(reasons[0])
    raise TemplateError("The model's chat template leaves the prompt out, or changes its words; use --raw.")


def rendered(
    template: str,
    messages: Sequence[Message],
    special: Mapping[str, str],
    now: Callable[[], datetime] = datetime.now,
) -> str:
    """What `template` renders from `messages`, up to the assistant's turn. Raises TemplateError.

    It is rendered in a process without secrets, with limits on time and memory (template_sandbox.py).
    """
    (result,), _ = _results(template, [messages], special, now)
    if "error" in result:
        raise _refused(result["error"])
    return result["text"]


def _chat(content: object) -> list[Message]:
    return [{"role": "user", "content": content}]


def _holds(full: str, text: str) -> bool:
    """Whether the text is in what was rendered, white space aside, as it is or as JSON writes it."""
    squeezed = "".join(full.split())
    forms = (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    return any("".join(form.split()) in squeezed for form in forms)


def _decoded(path: Path) -> str:
    try:
        text = read_bytes(path, LARGEST, str(path)).decode()
    except UnicodeDecodeError as error:
        raise ReadError(f"{path} is not UTF-8 text.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _no_default(names: Sequence[str]) -> TemplateError:
    return TemplateError(
        f"The model has several chat templates ({', '.join(names)}) and none is its default; put the one to use into "
        "chat_template.jinja, or use --raw."
    )


def _results(
    template: str,
    chats: Sequence[Sequence[Message]],
    special: Mapping[str, str],
    now: Callable[[], datetime] = datetime.now,
) -> tuple[list[dict[str, str]], bool]:
    """What the sandbox says of each chat, and whether the template asked for the date. Raises TemplateError."""
    job = {"template": template, "chats": chats, "special": dict(special), "now": now().isoformat()}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(SANDBOX)],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=PATIENCE_S,
            env={name: value for name, value in os.environ.items() if name in NEEDED_VARIABLES},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"it took longer than {PATIENCE_S} s") from None
    except OSError as error:
        raise TemplateError(f"No process can be started for the model's chat template: {error.strerror}.") from error
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _refused(f"it takes more than {CPU_SECONDS} s")
    try:
        result = json.loads(done.stdout)
        return list(result["results"]), bool(result["dated"])
    except (ValueError, KeyError):
        raise _refused("it crashed the process that renders it") from None


def _refused(reason: str) -> TemplateError:
    return TemplateError(f"The model's chat template cannot be rendered ({reason}); use --raw.")
