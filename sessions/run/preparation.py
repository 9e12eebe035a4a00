"""The preparation of a session, in a process of its own: environments, the model, the prompt's token IDs.

    python kasoku.py sessions.run.preparation SESSION_FOLDER WIRE_FD

Says what it does as journal records on the wire (phases with progress, then `prepared`), for the conductor to keep.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from methods.base.home import CACHE, HomeError, config_folder, home
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.memory_bandwidth import MemoryBandwidth
from methods.base.progress import Progress
from methods.base.refusal import refusal
from methods.base.secret_variables import without_secrets
from methods.catalogue.availability import with_packages, with_program
from methods.catalogue.method import SERVER
from methods.catalogue.native_code import tried, unbuildable
from methods.catalogue.quantised import lacking_for
from methods.environments import environments
from methods.jobs.bandwidth import bandwidth
from methods.jobs.servers import own_interpreter
from methods.models import models, prompts
from methods.models.config import ConfigError, read_json, settings_digest, too_few_layers, undivided
from methods.models.converted import ConversionError, Converting, Reader
from methods.models.served import is_served, served_model
from probes.capture import capture
from probes.gpu.nvml import Nvml
from sessions.device.device_key import device_key
from sessions.disk.journal import read_journal
from sessions.disk.plan import PIPELINE, Goal, Plan, PlannedMethod
from sessions.disk.records import Phase, Prepared, ReferenceScored, encode
from sessions.disk.session_folder import SessionFolder
from sessions.planning.fidelity_rule import FidelityTextError
from sessions.planning.prompt_ids import prompts_of
from sessions.run.begun import Begun
from sessions.run.reference import OtherTokeniserError, ReferenceJob
from sessions.run.runner_variables import device_variables

CONVERTER = "torch"  # the environment that turns models into what every engine reads


class PreparationFailedError(Exception):
    """The session cannot be prepared; the text is the sentence that says why and what to do."""


class Preparation:
    """Reports each phase on the wire."""

    def __init__(
        self, plan: Plan, goals: Sequence[Goal], begun: Begun, home_folder: Path, config: Path, wire: int
    ) -> None:
        self._plan, self._goals, self._begun = plan, goals, begun
        self._home, self._config, self._wire = home_folder, config, wire
        # no other process of a preparation's is to have it
        self._has_key = plan.server_key is None or bool(os.environ.pop(plan.server_key, ""))
        self._phase = ""
        self._last: Progress | None = None

    def carry_out(self) -> Prepared:
        """Everything the blocks need. Raises PreparationFailedError."""
        ready, unavailable = self._environments()
        model = self._model(self._plan.model)
        digest = self._settings_digest(model)
        _refuse(self._begun.other_model(model, digest))
        for method in self._plan.methods:
            if method.name in ready and (lack := self._lacking_for(model, method, ready[method.name])) is not None:
                unavailable[method.name] = lack
                del ready[method.name]
        converted = self._converted(model, ready, unavailable)
        order = self._plan.order(self._goals)
        missing = {block.method for block in order if (block.method, block.block) not in self._begun.done}
        for name in sorted(missing & ready.keys()):
            _refuse(self._begun.other_environment(ready[name]))
        prepared = self._begun.prepared or self._prompted(model)
        self._reference(model, len(prepared.prompts[0]))
        return msgspec.structs.replace(
            prepared,
            t=time.perf_counter_ns(),
            model=model,
            settings_digest=digest,
            interpreters={name: _kept(found) for name, found in ready.items()},
            unavailable=unavailable,
            converted=converted,
            bandwidth=self._bandwidth(ready),
        )

    def say(self, record: Phase | Prepared | ReferenceScored) -> None:
        """One record as one line on the wire."""
        view = memoryview(encode(record) + b"\n")
        while view:
            view = view[os.write(self._wire, view) :]

    def _say_phase(self, state: str, detail: str = "", progress: Progress | None = None) -> None:
        self.say(
            Phase(
                t=time.perf_counter_ns(),
                name=self._phase,
                state=state,
                detail=detail,
                done=progress.done if progress else None,
                total=progress.total if progress else None,
                unit=progress.unit if progress else "",
            )
        )

    def _report(self, progress: Progress) -> None:
        if progress == self._last:  # a heartbeat, which is no news
            return
        self._last = progress
        self._say_phase(
            "progress", f"{progress.phase}: {progress.detail}" if progress.detail else progress.phase, progress
        )

    def fail(self, sentence: str) -> None:
        """The current phase failed."""
        self._say_phase("failed", sentence)

    def _environments(self) -> tuple[dict[str, Interpreter], dict[str, Unavailable]]:
        self._phase = "environments"
        self._say_phase("started")
        ready: dict[str, Interpreter] = {}
        unavailable: dict[str, Unavailable] = {}
        for method in self._plan.methods:
            found = self._interpreter(method)
            if isinstance(found, Unavailable) and found.remedy and self._plan.create_environments:
                found = self._created(method.environment)
            found = with_program(method, with_packages(method.packages, found))
            if isinstance(found, Interpreter) and method.needs.compiler:
                found = tried(self._kind, found, self._home / CACHE) or found
            if isinstance(found, Interpreter):
                ready[method.name] = found
            else:
                unavailable[method.name] = found
        self._say_phase("ended", f"{len(ready)} of {len(self._plan.methods)} methods can run here")
        return ready, unavailable

    def _interpreter(self, method: PlannedMethod) -> Interpreter | Unavailable:
        if not method.fresh:
            if self._has_key:
                return own_interpreter()
            key = self._plan.server_key
            return Unavailable(f"The variable {key}, which is to hold the server's API key, is not set.", "")
        if method.lacking:
            return Unavailable(method.lacking["reason"], method.lacking["remedy"])
        if method.needs.compiler and (lack := unbuildable(self._kind, None, self._home / CACHE)) is not None:
            return lack  # whatever the environment, so before making one
        return environments.resolve(method.environment, self._home, self._config)

    @property
    def _kind(self) -> str:
        return "cpu" if self._plan.device == "cpu" else "cuda"

    def _created(self, environment: str) -> Interpreter | Unavailable:
        backend = "cpu" if self._plan.device == "cpu" else "auto"
        try:
            return environments.create(environment, self._home, self._config, backend=backend, report=self._report)
        except (environments.CreationError, environments.EnvironmentProblemError) as error:
            return Unavailable(str(error), f"kasoku env create {environment}")

    def _for_conversion(self, environment: str) -> Interpreter | Unavailable:
        found = environments.resolve(environment, self._home, self._config)
        if isinstance(found, Unavailable) and found.remedy and self._plan.create_environments:
            return self._created(environment)
        return found

    def _model(self, name: str) -> models.Model:
        if is_served(name):
            return served_model(name)
        self._phase = f"model {name}"
        self._say_phase("started")
        converter = environments.resolve(CONVERTER, self._home, self._config)
        try:
            model = models.prepare(
                name,
                self._home,
                converter,
                self._report,
                trust_remote_code=self._plan.trust_remote_code,
            )
        except models.ModelError as error:
            raise PreparationFailedError(str(error)) from None
        self._say_phase("ended", "" if model.parameters is None else f"{model.parameters / 1e6:.0f} M parameters")
        return model

    def _lacking_for(self, model: models.Model, method: PlannedMethod, found: Interpreter) -> Unavailable | None:
        if not method.fresh:
            return None
        if (method.degree or 1) > 1 and (why := _undivided(model, method, method.degree or 1)):
            return Unavailable(f"The model cannot be split so: {why}.", "")
        if model.quantisation is None:
            return None
        return lacking_for(model.quantisation, method.library, method.options, found, on_gpu=self._plan.device != "cpu")

    def _converted(
        self, model: models.Model, ready: dict[str, Interpreter], unavailable: dict[str, Unavailable]
    ) -> dict[str, str]:
        """The model in the forms that methods read, their folders by method; those that cannot have one are moved to
        `unavailable`."""
        wanted = {each.name: each for each in self._plan.methods if each.name in ready and each.conversion is not None}
        if not wanted:
            return {}
        self._phase = "conversions"
        self._say_phase("started")
        converting = Converting(
            home=self._home,
            dtype=self._plan.dtype,
            device=self._kind,
            gpu_uuids=tuple(self._plan.gpu_uuids),
            threads=self._plan.threads,
            variables=device_variables(self._plan),
            interpreter_of=self._for_conversion,
            report=self._report,
        )
        folders: dict[str, str] = {}
        for name, method in wanted.items():
            options = {} if method.engine == SERVER else method.options  # its library's engine checks what it reads
            reader = Reader(engine=method.library, options=options, interpreter=ready[name])
            try:
                folders[name] = str(converting.converted(model, str(method.conversion), reader))
            except ConversionError as error:
                unavailable[name] = Unavailable(str(error), "")
                del ready[name]
        self._say_phase("ended", f"{len(folders)} of {len(wanted)} methods have the model in their form")
        return folders

    def _bandwidth(self, ready: Mapping[str, Interpreter]) -> MemoryBandwidth:
        """The device's memory bandwidth, measured now or earlier: the limit that methods are compared with."""
        if is_served(self._plan.model):
            return MemoryBandwidth(reason="how many bytes a server's own model reads for a token is not known")
        self._phase = "bandwidth"
        self._say_phase("started")
        with_torch = [found for found in ready.values() if "torch" in found.versions]
        nvml = Nvml()
        found = bandwidth(
            self._home,
            device_key(self._plan, capture(nvml)),
            min(with_torch, key=lambda one: one.environment != CONVERTER, default=None),
            gpu_uuids=self._plan.gpu_uuids,
            gpu_visible=self._plan.gpu_visible,
            threads=self._plan.threads,
            report=self._report,
        )
        read = found.read_bytes_s
        self._say_phase("ended", f"{read / 1e9:.0f} GB/s read" if read is not None else found.reason)
        return found

    def _reference(self, model: models.Model, prompt_tokens: int) -> None:
        """The scores of the reference, which the methods' fidelity is to, where it is asked for and not known yet."""
        if not any(goal.fidelity for goal in self._goals):
            return
        if self._begun.reference is not None and not self._begun.reference.reason:
            return
        named = self._plan.reference_model
        of = self._model(named) if named is not None else model
        self._phase = "fidelity"
        self._say_phase("started")
        job = ReferenceJob(self._plan, self._home, self._config, self._report)
        try:
            scored = job.scored(model, of, prompt_tokens)
        except (OtherTokeniserError, FidelityTextError) as error:
            raise PreparationFailedError(str(error)) from None
        self._say_phase("ended", scored.reason or f"{len(scored.windows)} windows")
        self.say(scored)

    def _settings_digest(self, model: models.Model) -> str:
        if is_served(model.source):
            return ""
        try:
            return settings_digest(model.folder)
        except ConfigError as error:
            raise PreparationFailedError(str(error)) from None

    def _prompted(self, model: models.Model) -> Prepared:
        """The prompt of a session that begins, with the model alone."""
        if is_served(model.source):
            return self._as_text(model)
        self._phase = "prompt"
        self._say_phase("started")
        try:
            made = prompts_of(self._plan, model)
        except prompts.PromptError as error:
            raise PreparationFailedError(str(error)) from None
        stops = list(model.eos_token_ids) if self._plan.sampling.stop_at_eos else []
        if self._plan.sampling.stop_at_eos and not stops:
            raise PreparationFailedError(f"{self._plan.model} has no end-of-sequence token: remove --stop-at-eos.")
        prompt = made[0]
        lengths = dict.fromkeys(f"{len(each.ids)}" for each in made)
        self._say_phase("ended", f"{', '.join(lengths)} tokens")
        return Prepared(
            t=0,
            model=model,
            prompts=[list(each.ids) for each in made],
            prompt_text=prompt.text,
            prompt_template=prompt.template,
            prompt_dated=prompt.dated,
            stop_token_ids=stops,
            interpreters={},
            unavailable={},
        )

    def _as_text(self, model: models.Model) -> Prepared:
        """The prompt for a server's own model, which the server tokenises."""
        plan = self._plan
        return Prepared(
            t=0,
            model=model,
            prompts=[[]],
            prompt_text=prompts.DEFAULT if plan.prompt is None else plan.prompt,
            prompt_template=plan.template is not False,
            stop_token_ids=[],
            interpreters={},
            unavailable={},
        )


def _undivided(model: models.Model, method: PlannedMethod, degree: int) -> str:
    try:
        config = read_json(model.folder / "config.json")
        if method.split == PIPELINE:
            return too_few_layers(config, degree)
        return "" if method.one_process else undivided(config, degree)
    except ConfigError:  # whoever reads it says so
        return ""


def _refuse(sentence: str) -> None:
    if sentence:
        raise PreparationFailedError(sentence)


def _kept(interpreter: Interpreter) -> Interpreter:
    """As the journal keeps it: without what looks like a secret among its variables."""
    return replace(interpreter, variables=without_secrets(interpreter.variables))


def main(arguments: list[str]) -> int:
    folder, wire = SessionFolder(Path(arguments[0])), int(arguments[1])
    os.set_inheritable(wire, False)
    begun = Begun.of(read_journal(folder.journal))
    preparation = Preparation(folder.plan(), folder.read().goals, begun, home(), config_folder(), wire)
    try:
        preparation.say(preparation.carry_out())
    except (PreparationFailedError, HomeError) as error:
        preparation.fail(str(error))
        return 1
    except (OSError, MemoryError, ImportError) as error:
        traceback.print_exc()
        preparation.fail(refusal(error))
        return 1
    return 0
