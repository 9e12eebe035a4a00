"""A home, a config folder, a tiny model, methods of the scripted engine: whole sessions in seconds, without torch."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from methods.base.home import private_folder
from sessions.close.session_end import recover
from sessions.disk.journal import read_journal
from sessions.disk.plan import Plan
from sessions.disk.records import AnyRecord
from sessions.disk.session_folder import SessionFolder
from sessions.planning.make import make_plan
from sessions.planning.wanted import Wanted
from sessions.run.launch import CONDUCTOR, launch, resume
from tests.sessions.processes import DEADLINE_S, child_of, described, processes_of, until

ENGINE = Path(__file__).with_name("scripted_engine.py")
KASOKU = Path(sys.executable).with_name("kasoku")
VOCABULARY = 64
CONTEXT = 100_000


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@dataclass
class Workplace:
    """`home` and `config` are the environment's KASOKU_HOME and KASOKU_CONFIG as long as the test runs."""

    home: Path
    config: Path
    model: Path
    methods: dict[str, dict[str, object]] = field(default_factory=dict)

    def method(
        self,
        name: str,
        reference: str | None = None,
        environment: str = "plain",
        presets: Sequence[str] = (),
        **options: object,
    ) -> str:
        """Have a method of the scripted engine in the catalogue."""
        self.methods[name] = {
            "reference": reference,
            "environment": environment,
            "presets": list(presets),
            "options": options,
        }
        rows = []
        for each, row in self.methods.items():
            rows += [
                f"[methods.{each}]",
                f'summary = "scripted: {each}"',
                f"engine = {json.dumps(str(ENGINE))}",
                f"environments = {{ cpu = {json.dumps(row['environment'])} }}",
                f"presets = {json.dumps(row['presets'])}",
                'must_show = { cache = "dynamic" }',
            ]
            if row["reference"]:
                rows += [f"reference = {json.dumps(row['reference'])}", 'differs = "its options"']
            rows.append(f"[methods.{each}.options]")
            given = row["options"]
            assert isinstance(given, dict)
            rows += [f"{key} = {json.dumps(value)}" for key, value in given.items()]
        (private_folder(self.config / "methods") / "scripted.toml").write_text("\n".join(rows) + "\n")
        return name

    def environment(self, name: str, python: Path) -> None:
        """Have an environment that is an interpreter."""
        folder = private_folder(self.config / "environments")
        (folder / f"{name}.toml").write_text(f"[{name}]\npython = {json.dumps(str(python))}\n")

    # A session without the command line: planned and launched as `kasoku run` does it.

    def wanted(self, *methods: str, **changes: Any) -> Wanted:
        """One timed request of 8 tokens in one block of each method, greedy, on the CPU, but for `changes`."""
        small: dict[str, Any] = {
            "model": str(self.model),
            "requests": 1,
            "blocks": 1,
            "warmup": 0,
            "max_new_tokens": 8,
            "prompt_tokens": 4,
            "device": "cpu",
            "seed": 7,
            "load_deadline_s": 30.0,
            "token_deadline_s": 30.0,
        }
        return Wanted({**small, **changes}, methods=methods)

    def plan(self, *methods: str, **changes: Any) -> Plan:
        return make_plan(self.wanted(*methods, **changes), self.home, self.config)

    def launch(self, *methods: str, **changes: Any) -> SessionFolder:
        """A session with its conductor at work."""
        return launch(self.home, self.plan(*methods, **changes))

    def run(self, *methods: str, **changes: Any) -> SessionFolder:
        """A session that has ended."""
        folder = self.launch(*methods, **changes)
        self.finished(folder)
        return folder

    def resume(self, folder: SessionFolder) -> None:
        """What is missing of the session, until it has ended."""
        resume(folder, self.home)
        self.finished(folder)

    @staticmethod
    def finished(folder: SessionFolder, deadline_s: float = DEADLINE_S) -> str:
        """Wait until nobody works on the session any more; its status then."""
        until(lambda: not folder.is_live(), f"{folder.id} ends", deadline_s)
        return recover(folder)

    # The command line

    def options(self, *methods: str, **changes: object) -> list[str]:
        """`run` with the options that plan the same as `plan`; a change to None leaves an option out."""
        small: dict[str, object] = {
            "model": self.model,
            "requests": 1,
            "blocks": 1,
            "warmup": 0,
            "max_new_tokens": 8,
            "prompt_tokens": 4,
            "device": "cpu",
            "seed": 7,
        }
        given = {f"--{name.replace('_', '-')}": value for name, value in (small | changes).items()}
        flat = [str(part) for option, value in given.items() if value is not None for part in (option, value)]
        return ["run", *(part for method in methods for part in ("--method", method)), *flat]

    def kasoku(self, *arguments: str, stdin: str | None = None, timeout: float = DEADLINE_S) -> Said:
        """The real command in a process of its own."""
        done = subprocess.run(
            [str(KASOKU), *arguments], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr)

    @staticmethod
    def command(*arguments: str) -> Said:
        """The same command within this process, which saves its start."""
        from tui.command_line import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        return Said(code, out.getvalue(), err.getvalue())

    def sessions(self) -> list[SessionFolder]:
        """All sessions of this home, oldest first."""
        folder = self.home / "sessions"
        return [SessionFolder(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []


def make_model(folder: Path, words: Sequence[str] | None = None, **config: object) -> Path:
    """A whole Llama of one layer; with `words` it also has a tokeniser that knows exactly these."""
    private_folder(folder)
    described_as = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps({**described_as, **config}))
    save_file({"model.embed_tokens.weight": np.zeros((VOCABULARY, 8), np.float32)}, folder / "model.safetensors")
    if words is not None:
        tokeniser = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[0]))
        tokeniser.pre_tokenizer = WhitespaceSplit()
        tokeniser.save(str(folder / "tokenizer.json"))
    return folder


def records_of(folder: SessionFolder) -> list[AnyRecord]:
    """The journal's records now."""
    return list(read_journal(folder.journal))


def runs_of(folder: SessionFolder) -> list[dict[str, Any]]:
    """The rows of the runs frame."""
    return pl.read_parquet(folder.frame("runs")).to_dicts()


def conductor_now(folder: SessionFolder) -> psutil.Process | None:
    """The session's conductor, None where there is none."""
    for process in psutil.process_iter():
        try:
            if CONDUCTOR in process.cmdline() and str(folder.path) in process.cmdline():
                return process
        except psutil.Error:
            continue
    return None


def conductor_of(folder: SessionFolder) -> psutil.Process:
    """The session's conductor, once it is there."""
    return until(lambda: conductor_now(folder), f"{folder.id} has a conductor")


def warden_of(folder: SessionFolder, program: str = "methods/runner") -> psutil.Process | None:
    """The warden of the runner at work (or of the preparation: PREPARATION), None where there is none."""
    for process in processes_of(folder.path):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if len(line) > 2 and line[2].endswith("warden.py") and any(program in argument for argument in line):
            return process
    return None


def runner_of(folder: SessionFolder) -> psutil.Process | None:
    """The runner at work, None where there is none."""
    warden = warden_of(folder)
    return child_of(warden.pid, "methods/runner") if warden is not None else None


def assert_nothing_left(folder: SessionFolder) -> None:
    """No process of the session lives on; the kernel gets a moment to take the last of them away."""
    until(
        lambda: not processes_of(folder.path),
        f"nothing is left running of {folder.id}: {described(processes_of(folder.path))}",
        10,
    )


def environment_of(work: Workplace) -> Mapping[str, str]:
    """For a command started some other way."""
    return {**os.environ, "KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
