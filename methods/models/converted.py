"""Converted models: made once in `cache/converted/` of the home, checked against the model they were made from, kept.

A form is a folder, created under a lock and renamed once the same ids have been forced through both models: a
conversion that is stopped, fails its check or runs out of disk leaves nothing behind. What it was made from is in its
key.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from methods.base import file_lock, whole_folder
from methods.base.bounded_read import read_regular
from methods.base.home import CACHE, HomeError, private_folder, subfolder, write_atomically
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import Progress, Report
from methods.base.user_path import reason
from methods.jobs.runner_job import JobError, run_job
from methods.models.config import settings_digest
from methods.models.conversions import AS_GIVEN, CONVERSIONS, TORCH, Conversion
from methods.models.gguf_files import METHOD as GGUF
from methods.models.manifest import settle
from methods.models.model import Model
from methods.models.quantisation import name_of
from methods.models.safetensors_folder import identity

FOLDER: Final = "converted"
MANIFEST: Final = "kasoku-conversion.json"
SCHEMA: Final = 1
CHECKED_IDS: Final = 64
WORK: Final = ".work"
BYTES_PER_WEIGHT: Final = 2
SPARE_BYTES: Final = 64_000_000


class ConversionError(Exception):
    """The model cannot be converted. The text is one sentence for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The engine that will read what is made: the check loads it with these options."""

    engine: str
    options: Mapping[str, object]
    interpreter: Interpreter


@dataclass(frozen=True, slots=True, kw_only=True)
class Converting:
    """What a conversion depends on besides the model and its reader.

    `dtype` is the session's, by torch's name; `variables` are those of a runner that may see the session's devices, and
    `interpreter_of` gives the Python of an environment of Kasoku's.
    """

    home: Path
    dtype: str
    device: str  # cpu or cuda
    gpu_uuids: tuple[str, ...]
    threads: int
    variables: Mapping[str, str]
    interpreter_of: Callable[[str], Interpreter | Unavailable]
    report: Report

    def converted(self, model: Model, name: str, reader: Reader) -> Path:
        """The folder of `model` in the form `name`; immediate if it was made before. Raises ConversionError.

        Two at once: the second waits for the first. An exception out of `report` stops the work.
        """
        if model.quantisation == GGUF and name == AS_GIVEN:
            return model.folder
        if model.quantisation is not None:
            raise ConversionError(
                f"The model is quantised ({name_of(model.quantisation)}), and only plain weights are converted to"
                f" {CONVERSIONS[name].title}."
            )
        try:
            return self._converted(model, name, reader)
        except HomeError as error:
            raise ConversionError(str(error)) from error
        except OSError as error:
            raise ConversionError(f"{model.name} cannot be converted ({reason(error)}).") from error

    def _converted(self, model: Model, name: str, reader: Reader) -> Path:
        conversion = CONVERSIONS[name]
        root = private_folder(subfolder(self.home, CACHE) / FOLDER)
        key = self._key(model, name, reader)
        phase = f"{model.name} as {conversion.title}"
        if _is_whole(root / key):
            return root / key
        source = None if conversion.source is None else self.converted(model, conversion.source, reader)
        with file_lock.held(whole_folder.lock_of(root, key), phase, self.report):
            if _is_whole(root / key):
                return root / key
            self._look_for_space(model, conversion, root)
            with whole_folder.made(root, key) as making:
                work = private_folder(making / WORK)
                result = self._made(model, conversion, reader, source, making)
                at_most = conversion.most_unexplained
                checked = {} if at_most is None else self._checked(model, conversion, reader, making, at_most)
                shutil.rmtree(work)
                files = _identities(making)
                for file in files:
                    settle(making / file)
                content = {
                    "schema": SCHEMA,
                    "conversion": name,
                    "model": model.source,
                    "weights_digest": model.weights_digest,
                    "dtype": self.dtype,
                    "made": result,
                    "checked": checked,
                    "files": files,
                }
                write_atomically(making / MANIFEST, json.dumps(content, indent=1).encode())
        return root / key

    def _key(self, model: Model, name: str, reader: Reader) -> str:
        conversion = CONVERSIONS[name]
        content = json.dumps(
            [
                model.weights_digest,
                settings_digest(model.folder),
                self.dtype,
                [conversion.job, dict(conversion.options), conversion.source],
                {each: reader.interpreter.versions.get(each, "") for each in conversion.made_by},
            ]
        )
        readable = re.sub(r"[^\w.-]", "_", model.name)[:64]
        return f"{readable}-{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def _look_for_space(self, model: Model, conversion: Conversion, root: Path) -> None:
        needed, free = _size(model, conversion) + SPARE_BYTES, shutil.disk_usage(root).free
        if free < needed:
            raise ConversionError(
                f"{model.name} as {conversion.title} takes about {needed / 1e9:.1f} GB, and {root} has"
                f" {free / 1e9:.1f} GB free: free some space, or set KASOKU_HOME to a larger disk."
            )

    def _made(
        self, model: Model, conversion: Conversion, reader: Reader, source: Path | None, making: Path
    ) -> dict[str, object]:
        python = reader.interpreter if conversion.environment is None else self._interpreter(conversion.environment)
        lent = _lent(conversion.packages, reader.interpreter, making / WORK / "packages")
        job = {
            "job": conversion.job,
            "source": str(source or model.folder),
            "folder": str(making),
            "dtype": self.dtype,
            "threads": self.threads,
            **conversion.options,
        }
        title = f"converting {model.name} to {conversion.title}"
        return self._ran(replace(python, paths=(*lent, *python.paths)), job, making, title, _size(model, conversion))

    def _checked(
        self, model: Model, conversion: Conversion, reader: Reader, making: Path, at_most: float
    ) -> dict[str, object]:
        """The same ids forced through the model and through what was made of it. Raises ConversionError."""
        logits = making / WORK / "logits.npy"
        drawn = random.Random(0)  # noqa: S311 - ids, not a secret
        ids = [drawn.randrange(model.vocab_size or 1000) for _ in range(CHECKED_IDS)]
        forced = {
            "job": "forced",
            "model_folder": str(model.folder),
            "dtype": self.dtype,
            "device": self.device,
            "gpu_uuids": list(self.gpu_uuids),
            "threads": self.threads,
            "context_length": model.context_length,
            "ids": ids,
            "logits": str(logits),
        }
        of_model = {**forced, "engine": "transformers", "options": {"attn_implementation": "eager"}, "keep": True}
        title = f"checking {model.name} as {conversion.title}"
        self._ran(self._interpreter(TORCH), of_model, making, f"{title}: the model itself")
        of_reader = {
            **forced,
            "engine": reader.engine,
            "options": dict(reader.options),
            "converted_folder": str(making),
        }
        found = self._ran(reader.interpreter, of_reader, making, title)
        unexplained = found.get("unexplained")
        if not isinstance(unexplained, float) or not unexplained <= at_most:
            raise ConversionError(
                f"{model.name} as {conversion.title} was made and thrown away: with the same ids its logits are not the"
                f" model's (of their variance {unexplained} is unexplained, and {at_most} is the"
                " most that this rounding may leave)."
            )
        return {"ids": CHECKED_IDS, "unexplained": unexplained, "at_most": at_most}

    def _interpreter(self, environment: str) -> Interpreter:
        found = self.interpreter_of(environment)
        if isinstance(found, Unavailable):
            raise ConversionError(f"The model must be converted first: {found.reason} Fix: `{found.remedy}`.")
        return found

    def _ran(
        self, python: Interpreter, job: Mapping[str, object], making: Path, title: str, size: int | None = None
    ) -> dict[str, object]:
        """The job's result; its progress is how much lies in the folder that is being filled."""
        log = subfolder(self.home, CACHE) / f"{job['job']}-{making.name.lstrip('.')}.log"
        runner = replace(python, variables={**self.variables, **python.variables})

        def report(progress: Progress) -> None:
            there = sum(path.stat().st_size for path in making.iterdir() if os.path.isfile(path)) if size else None
            self.report(Progress(title, progress.detail, there, size, "bytes" if size else ""))

        try:
            result = run_job(runner, job, log, report)
        except JobError as error:
            raise ConversionError(f"{title} failed: {error} The log is {log}.") from error
        log.unlink(missing_ok=True)
        log.with_suffix(".job.json").unlink(missing_ok=True)
        return result


def _size(model: Model, conversion: Conversion) -> int:
    """Bytes that the form of a model takes, as far as is known before."""
    return int((model.parameters or model.weights_bytes // BYTES_PER_WEIGHT) * BYTES_PER_WEIGHT * conversion.size)


def _lent(packages: tuple[str, ...], interpreter: Interpreter, folder: Path) -> tuple[str, ...]:
    """A folder with links to these top-level packages of an environment, and nothing else of it."""
    if not packages:
        return ()
    private_folder(folder)
    prefix = interpreter.python.parent.parent
    places = [Path(path) for path in interpreter.paths] + sorted(prefix.glob("lib*/python3*/*-packages"))
    for package in packages:
        found = next((place / package for place in places if os.path.isdir(place / package)), None)
        if found is None:
            raise ConversionError(
                f"The environment {interpreter.environment} has no package {package}, which converts the model; make"
                f" one that has it with `kasoku env create {interpreter.environment}`."
            )
        (folder / package).symlink_to(found)
    return (str(folder),)


def _is_whole(folder: Path) -> bool:
    """Whether a converted model is there as it was made."""
    try:
        content = json.loads(read_regular(folder / MANIFEST).decode())
        files = content["files"] if content["schema"] == SCHEMA else {}
        return bool(files) and all(identity(folder / name) == tuple(was) for name, was in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _identities(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: identity(path) for path in sorted(folder.iterdir()) if os.path.isfile(path)}
