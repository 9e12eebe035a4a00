"""Servers that run already: what a runner, which alone opens sockets, finds out about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from methods.base.home import CACHE, subfolder
from methods.base.interpreter import Interpreter
from methods.base.progress import silent
from methods.jobs.runner_job import run_job

OWN: Final = "kasoku"  # the environment of what needs the standard library alone
LOOK_S: Final = 1.0
ASK_S: Final = 10.0
USUAL: Final[Mapping[int, str]] = {  # ports, and whose they are where nothing else is said
    1234: "LM Studio",
    1337: "Jan",
    5000: "text-generation-webui, TabbyAPI",
    5001: "KoboldCpp",
    8000: "vLLM, TensorRT-LLM",
    8080: "llama-server, LocalAI",
    9931: "llama-server",
    11434: "Ollama",
    23333: "LMDeploy",
    30000: "SGLang",
}


@dataclass(frozen=True, slots=True)
class Served:
    """A server: its models by name with what it calls itself, or what went wrong, with the status of its answer."""

    url: str
    models: Mapping[str, str]
    status: int | None = None
    error: str = ""

    @property
    def wants_key(self) -> bool:
        return self.status in (401, 403)


def own_interpreter(variables: Mapping[str, str] | None = None) -> Interpreter:
    """Kasoku's own Python, for a runner that needs the standard library alone."""
    return Interpreter(OWN, Path(sys.executable), (), variables or {}, "own", {})


def usual_servers(home: Path) -> list[Served]:
    """The servers on this machine's usual ports that list models or want a key, without one. Raises JobError."""
    found = ask([f"http://127.0.0.1:{port}" for port in USUAL], home, within_s=LOOK_S)
    return [each for each in found if each.models or each.wants_key]


def ask(urls: Sequence[str], home: Path, key_from: str | None = None, within_s: float = ASK_S) -> list[Served]:
    """What the servers at these addresses say. `key_from` is the variable that holds their key. Raises JobError."""
    key = os.environ.get(key_from, "") if key_from else ""
    interpreter = own_interpreter({key_from: key} if key_from and key else None)
    log = subfolder(home, CACHE) / f"servers-{os.getpid()}.log"
    job = {"job": "served", "urls": list(urls), "within_s": within_s, "key_from": key_from}
    try:
        told = run_job(interpreter, job, log, silent)
    finally:
        log.unlink(missing_ok=True)
        log.with_suffix(".job.json").unlink(missing_ok=True)
    rows = told.get("servers")
    return [_served(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _served(row: Mapping[str, object]) -> Served:
    models, status = row.get("models"), row.get("status")
    return Served(
        str(row.get("url")),
        {str(name): str(owner) for name, owner in models} if isinstance(models, list) else {},
        status if isinstance(status, int) else None,
        str(row.get("error") or ""),
    )
