"""A model's chat template: found in its folder and rendered in Jinja's sandbox by a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from methods.text.template_sandbox import CPU_SECONDS

SANDBOX: Final = Path(__file__).with_name("template_sandbox.py")
PATIENCE_S: Final = 60  # on the clock on the wall: other work may hold the process up
NEEDED_VARIABLES: Final = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")  # to find Python's own and Jinja


class TemplateError(Exception):
    """The template cannot be rendered. The text is one sentence for the user."""


def chat_template(folder: Path) -> str | None:
    """The template in `folder`, wherever a version of transformers put it; None if the model has none."""
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
    """The prompt that `template` renders from `messages`, up to the assistant's turn. Raises TemplateError.

    It is rendered in a process without secrets, with limits on time and memory (template_sandbox.py).
    """
    job = {"template": template, "messages": list(messages), "special": dict(special), "now": now().isoformat()}
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
    except ValueError:
        raise _refused("it crashed the process that renders it") from None
    if "text" in result:
        return str(result["text"])
    raise _refused(str(result.get("error")))


def _refused(reason: str) -> TemplateError:
    return TemplateError(f"The model's chat template cannot be rendered ({reason}); use --raw.")


def _object(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
