"""A chat template rendered in Jinja's sandbox, in a process of its own: it is an untrusted program.

    PYTHON -P template_sandbox.py <JOB >RESULT

JOB is JSON: template, chats (lists of messages), special, now (ISO 8601). RESULT is {"results": one for each chat,
{"text": …} or {"error": a reason, one line}; "dated": whether the template asked for the date or the time}.
Before it looks at the template the process takes from itself whatever a template has no use for: CPU time, memory,
writing files, other processes. Jinja's own limits do not hold a loop in a loop, or a text that doubles.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

CPU_SECONDS: Final = 2  # Jinja's import and the longest templates there are take a quarter of one
MEMORY_BYTES: Final = 512 << 20
LARGEST_RESULT: Final = 4_000_000
LONGEST_REASON: Final = 200


def limit_oneself() -> None:
    """Limit what runs here from now on: CPU time, memory, no writing of files, no new processes."""
    for kind, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


Chat = Sequence[Mapping[str, object]]
Render = Callable[[Chat], str]


def compiled(template: str, special: Mapping[str, str], now: Callable[[str], str]) -> Render:
    """What renders a chat by the template; both raise whatever an untrusted template raises.

    The template can name what transformers offers it (raise_exception, strftime_now, tojson, break and continue,
    generation) and nothing of Python: attributes with underscores, changes to what it is given, endless ranges and
    powers are refused.
    """
    import jinja2
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
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
        """Jinja's sandbox, which alone does not limit multiplication."""

        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            if operator == "**" or not numbers:
                raise SecurityError(f"it uses {operator} on more than two numbers")
            return super().call_binop(context, operator, left, right)

    class Generation(Extension):
        """`{% generation %}`, by which training finds the assistant's words: what is in it is rendered as it stands."""

        tags: set[str] = {"generation"}  # noqa: RUF012 - as Jinja declares it

        def parse(self, parser: Parser) -> jinja2.nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Callable[[], str]) -> str:
            return caller()

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = now
    parsed = environment.from_string(template)

    def render(chat: Chat) -> str:
        pieces = parsed.generate(
            messages=[dict(message) for message in chat],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **special,
        )
        kept: list[str] = []
        length = 0
        for piece in pieces:
            kept.append(piece)
            length += len(piece)
            if length > LARGEST_RESULT:
                raise ValueError(f"it makes a prompt of more than {LARGEST_RESULT:,} characters")
        text = "".join(kept)
        text.encode()  # half a surrogate pair is no text that a tokeniser takes
        return text

    return render


def result_of(job: Mapping[str, Any]) -> dict[str, object]:
    """The result of a job, for standard output."""
    moment = datetime.fromisoformat(job["now"])
    asked: list[str] = []

    def now(form: str) -> str:
        asked.append(form)
        return moment.strftime(form)

    try:
        render = compiled(job["template"], job["special"], now)
    except Exception as error:  # whatever a stranger's template raises
        return {"results": [{"error": _reason(error)}] * len(job["chats"]), "dated": False}
    return {"results": [_result(render, chat) for chat in job["chats"]], "dated": bool(asked)}


def _result(render: Render, chat: Chat) -> dict[str, str]:
    try:
        return {"text": render(chat)}
    except Exception as error:  # whatever a stranger's template raises
        return {"error": _reason(error)}


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"it takes more than {MEMORY_BYTES >> 20} MB of memory"
    reason = " ".join((str(error).splitlines() or [""])[0].split()) or type(error).__name__
    return reason[:LONGEST_REASON]


if __name__ == "__main__":
    given = json.loads(sys.stdin.buffer.read())
    limit_oneself()
    sys.stdout.write(json.dumps(result_of(given)))
