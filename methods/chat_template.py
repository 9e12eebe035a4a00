"""A model's chat template: found in its folder and rendered in Jinja's sandbox, for it is a stranger's program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

LARGEST_RESULT = 4_000_000


class TemplateError(Exception):
    """The template cannot be rendered. The text is one sentence for the user."""


def chat_template(folder: Path) -> str | None:
    """The template in `folder`, wherever a version of transformers put it; None where the model has none."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = _object(folder / name).get("chat_template")
        if isinstance(found, str):
            return found
        if isinstance(found, list):
            named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
            template = named.get("default")
            return template if isinstance(template, str) else None
    return None


def special_tokens(folder: Path) -> dict[str, str]:
    """`bos_token`, `eos_token` and the like, as templates name them."""
    found: dict[str, str] = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        for name, value in _object(folder / file).items():
            if name.endswith("_token"):
                content = value.get("content") if isinstance(value, dict) else value
                if isinstance(content, str):
                    found.setdefault(name, content)
    return found


def rendered(
    template: str,
    messages: Sequence[Mapping[str, str]],
    special: Mapping[str, str],
    now: Callable[[], datetime] = datetime.now,
) -> str:
    """The prompt that `template` makes of `messages`, up to where the assistant is to answer. Raises TemplateError.

    The template can name what transformers offers it (raise_exception, strftime_now, tojson, break and continue) and
    nothing of Python: attributes with underscores, changes to what it is given, endless ranges and powers are refused.
    """
    import jinja2
    from jinja2.exceptions import SecurityError
    from jinja2.ext import loopcontrols
    from jinja2.runtime import Context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: object) -> NoReturn:
        raise jinja2.TemplateRuntimeError(str(message))

    def to_json(value: object, ensure_ascii: bool = False, indent: int | None = None, **options: object) -> str:
        separators = options.get("separators")
        pair = tuple(map(str, separators)) if isinstance(separators, list | tuple) and len(separators) == 2 else None
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=(pair[0], pair[1]) if pair else None,
            sort_keys=bool(options.get("sort_keys", False)),
        )

    class Sandbox(ImmutableSandboxedEnvironment):
        """Jinja's sandbox, which by itself lets a template multiply without end."""

        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            if operator == "**" or not numbers:
                raise SecurityError(f"it uses {operator} on more than two numbers")
            return super().call_binop(context, operator, left, right)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    try:
        pieces = environment.from_string(template).generate(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **special,
        )
        text = ""
        for piece in pieces:
            text += piece
            if len(text) > LARGEST_RESULT:
                raise TemplateError("The model's chat template makes an endless prompt; use --raw.")
    except TemplateError:
        raise
    except Exception as error:  # whatever a stranger's template raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TemplateError(f"The model's chat template cannot be rendered ({reason}); use --raw.") from error
    return text


def _object(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
