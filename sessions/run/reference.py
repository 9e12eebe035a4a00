"""The reference's scores: the unquantised model in bfloat16 through the method `baseline`, measured once and kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from methods.base.bounded_read import read_regular
from methods.base.home import CACHE, HomeError, private_folder
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import Report
from methods.catalogue.catalogue import load_catalogue
from methods.catalogue.method import Method
from methods.catalogue.quantised import lacking_for
from methods.environments import environments
from methods.jobs.runner_job import JobError, run_job
from methods.models.config import ConfigError, settings_digest
from methods.models.model import Model
from methods.text.tokeniser import Tokeniser, TokeniserError, why_none
from probes.capture import capture
from probes.gpu.nvml import Nvml
from sessions.device.device_key import device_key
from sessions.disk.options import RunOptions
from sessions.disk.plan import Plan
from sessions.disk.records import ReferencePath, ReferenceScored, Window
from sessions.planning.fidelity_rule import FidelityTextError, text_of
from sessions.planning.fidelity_windows import GREEDY, Windows, windows_of
from sessions.run.reference_cache import FOLDER, FULL_MOST_BYTES, folder_of, forget_oldest, key_of, touch
from sessions.run.runner_variables import pinned_variables

METHOD: Final = "baseline"
DTYPE: Final = "bfloat16"
RULE: Final = 1  # of how references are scored; in the key of what is kept
FILE: Final = "reference.json"
LARGEST: Final = 64_000_000


class OtherTokeniserError(Exception):
    """The reference model has other ids than the measured one. The message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """reference.json, as the runner leaves it."""

    continuations: list[list[int]]
    prefill: ReferencePath
    decode: ReferencePath


class _NoReferenceError(Exception):
    """No reference can be had, for the reason given; the session runs without it."""


@dataclass(frozen=True, slots=True)
class ReferenceJob:
    """What scoring the reference takes; `scored()` does it, or takes it from the cache."""

    plan: Plan
    home: Path
    config: Path
    report: Report

    def scored(self, measured: Model, of: Model, prompt_tokens: int) -> ReferenceScored:
        """The scores of the model `of`, for sessions that measure `measured`; with the reason where there are none.

        Raises OtherTokeniserError, and FidelityTextError where the text that the user named cannot be scored.
        """
        try:
            return self._scored(measured, of, prompt_tokens)
        except FidelityTextError as error:
            if self.plan.fidelity_text is not None:
                raise
            return _without(str(error))
        except (_NoReferenceError, JobError, HomeError, ConfigError, OSError, ValueError) as error:
            return _without(str(error))

    def _scored(self, measured: Model, of: Model, prompt_tokens: int) -> ReferenceScored:
        if not measured.has_tokeniser:
            raise _NoReferenceError(f"{measured.name} {why_none(measured.folder)}, so no text can be scored with it.")
        if of is not measured:
            _check_tokenisers(measured, of)
        windows = windows_of(self.plan, measured, prompt_tokens)
        method = load_catalogue(self.config).methods[METHOD]
        interpreter = self._interpreter(method)
        if of.quantisation is not None:
            lack = lacking_for(
                of.quantisation, method.engine, method.options, interpreter, on_gpu=self.plan.device != "cpu"
            )
            if lack is not None:
                raise _NoReferenceError(
                    f"{of.name} is quantised, and the reference cannot run it: name the unquantised model with"
                    " --reference-model."
                )
        key = self._key(of, method, interpreter, windows)
        folder = folder_of(self.home / CACHE, key)
        if not os.path.isfile(folder / FILE):
            self._carry_out(of, method, interpreter, windows, folder)
        touch(folder)
        kept = msgspec.json.decode(read_regular(folder / FILE, LARGEST), type=_Kept)
        greedy = [
            Window(ids=[*context, *ids], scored=len(ids), stratum=GREEDY)
            for context, ids in zip(windows.contexts, kept.continuations, strict=True)
        ]
        return ReferenceScored(
            t=time.perf_counter_ns(),
            key=key,
            model=of.name,
            environment=interpreter.environment,
            quantised=of.quantisation,
            windows=[*windows.texts, *greedy],
            prefill=kept.prefill,
            decode=kept.decode,
        )

    def _interpreter(self, method: Method) -> Interpreter:
        environment = method.environments["cpu" if self.plan.device == "cpu" else "cuda"]
        found = environments.resolve(environment, self.home, self.config)
        if isinstance(found, Unavailable) and self.plan.create_environments:
            backend = "cpu" if self.plan.device == "cpu" else "auto"
            with contextlib.suppress(environments.CreationError, environments.EnvironmentProblemError):
                found = environments.create(environment, self.home, self.config, backend=backend, report=self.report)
        if isinstance(found, Unavailable):
            raise _NoReferenceError(
                f"The reference runs in the environment {environment}: {found.reason} Fix: `{found.remedy}`."
            )
        return found

    def _key(self, of: Model, method: Method, interpreter: Interpreter, windows: Windows) -> str:
        return key_of(
            RULE,
            of.weights_digest,
            of.code_digest,
            settings_digest(of.folder),
            method.engine,
            method.options,
            [interpreter.environment, str(interpreter.python), dict(interpreter.versions)],
            device_key(self.plan, capture(Nvml())),
            self.plan.threads,
            [[window.ids, window.scored] for window in windows.texts],
            windows.contexts,
            windows.scored,
        )

    def _carry_out(self, of: Model, method: Method, interpreter: Interpreter, windows: Windows, folder: Path) -> None:
        cache = private_folder(self.home / CACHE)
        making = private_folder(private_folder(cache / FOLDER) / f".{folder.name}-{os.getpid()}")
        variables = pinned_variables(self.plan, interpreter.environment, cache) | dict(interpreter.variables)
        job: dict[str, object] = {
            "job": "reference",
            "engine": method.engine,
            "options": method.options,
            "model_folder": str(of.folder),
            "quantisation": of.quantisation,
            "trust_remote_code": self.plan.trust_remote_code,
            "dtype": DTYPE,
            "device": "cpu" if self.plan.device == "cpu" else "cuda",
            "gpu_uuids": self.plan.gpu_uuids,
            "threads": self.plan.threads,
            "prompts": [windows.contexts[0]],
            "sampling": {"max_new_tokens": windows.scored, "temperature": 0.0},
            "texts": [{"ids": window.ids, "scored": window.scored} for window in windows.texts],
            "contexts": windows.contexts,
            "scored": windows.scored,
            "folder": str(making),
            "most_bytes": FULL_MOST_BYTES,
            "repair": interpreter.repair(),
        }
        try:
            run_job(replace(interpreter, variables=variables), job, cache / "reference.log", self.report)
            shutil.rmtree(folder, ignore_errors=True)
            making.replace(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        forget_oldest(cache)


def _check_tokenisers(measured: Model, of: Model) -> None:
    """Refuse a reference whose ids are not the measured model's. Raises OtherTokeniserError."""
    text = text_of(RunOptions())
    try:
        first, second = Tokeniser(measured.folder), Tokeniser(of.folder)
        same = first.encode(text) == second.encode(text) and first.beginning() == second.beginning()
    except TokeniserError:
        same = False
    if not same:
        raise OtherTokeniserError(
            f"--reference-model {of.name} has another tokeniser than {measured.name}, so what they say of the same ids"
            " cannot be compared: name the model that it was quantised from."
        )


def _without(reason: str) -> ReferenceScored:
    return ReferenceScored(t=time.perf_counter_ns(), reason=reason)
