"""Create an environment with uv: in a temporary folder, verified, and renamed only when it is complete."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from methods.base import file_lock, whole_folder
from methods.base.bounded_read import read_regular
from methods.base.home import ENVIRONMENTS, subfolder, write_atomically
from methods.base.interpreter import Interpreter
from methods.base.package_installer import PackageInstaller, cause
from methods.base.progress import Report
from methods.environments import managed, torch_builds
from methods.environments.distributions import site_packages, versions_in
from methods.environments.managed import ManagedEnvironment, Manifest
from methods.environments.specs import EnvironmentSpec
from methods.jobs.runner_job import JobError, run_job

NETWORK_WORDS = (
    "dns error",
    "client error (connect)",
    "connection refused",
    "timed out",
    "failed to fetch",
    "unreachable",
)


class CreationError(Exception):
    """The environment was not created: one sentence, and the last lines of uv's or Python's output."""

    def __init__(self, sentence: str, log_tail: str = "") -> None:
        super().__init__(sentence)
        self.log_tail = log_tail


def make(
    spec: EnvironmentSpec, home: Path, backend: str, report: Report, environ: Mapping[str, str]
) -> ManagedEnvironment:
    """The environment as described, created if it does not exist. Raises CreationError; leaves nothing half done.

    `backend`: auto, cpu, cuda, or a name that uv knows (cu126…). If another process is creating the same, wait for it.
    """
    if not spec.requirements:
        raise CreationError(
            f"The environment {spec.name} lists no requirements to install; add them to its table in your config, "
            f"or point it at a Python: kasoku env use {spec.name} /path/to/python."
        )
    phase = f"environment {spec.name}"
    chosen = torch_builds.chosen_backend(
        spec.backend if backend == torch_builds.AUTO else backend, torch_builds.has_nvidia_driver()
    )
    python = base_python(spec.python)
    root = subfolder(home, ENVIRONMENTS)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}" if python.startswith("/") else python
    final = root / managed.folder_name(spec, chosen, version)
    with file_lock.held(whole_folder.lock_of(root, final.name), phase, report):
        there = managed.read(final)
        if there is not None and there.fault is None:
            return there
        try:
            with whole_folder.made(root, final.name) as making:
                manifest = _fill(making, spec, chosen, python, PackageInstaller(root, phase, report, environ))
                managed.write_manifest(making, manifest)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CreationError(f"The environment {spec.name} cannot be written to {root}: {reason}.") from error
    made = managed.read(final)
    if made is None or made.fault is not None:
        raise CreationError(f"The environment {spec.name} was created but cannot be read back: {made and made.fault}.")
    return made


def base_python(specifier: str) -> str:
    """The Python to build on, as uv takes it: Kasoku's own if `specifier` allows it, otherwise the specifier."""
    from packaging.specifiers import SpecifierSet

    own = ".".join(map(str, sys.version_info[:3]))
    if own in SpecifierSet(specifier):
        return str(getattr(sys, "_base_executable", "") or sys.executable)
    return specifier


def _fill(making: Path, spec: EnvironmentSpec, backend: str, python: str, uv: PackageInstaller) -> Manifest:
    """Create the virtual environment `making`, install into it and verify it."""
    uv.say(f"creating a Python environment ({spec.takes})" if spec.takes else "creating a Python environment")
    # relocatable, because it moves to its place when it is done
    status, said = uv("venv", "--allow-existing", "--relocatable", "--python", python, str(making))
    if status != 0:
        raise CreationError(f"uv found no Python ({python}) for the environment {spec.name}: {cause(said)}", said)
    python_version = _version_of(making)
    notes = _install(making, spec, backend, python_version, uv)

    interpreter = Interpreter(spec.name, making / "bin" / "python", spec.paths, spec.variables, "managed", {})
    uv.say(f"checking that {', '.join(spec.imports) or 'Python'} can be imported")
    log = making / "kasoku-describe.log"
    try:
        result = run_job(
            interpreter, {"job": "describe", "distributions": [], "imports": list(spec.imports)}, log, uv.report
        )
    except JobError as error:
        raise CreationError(
            f"The environment {spec.name} was installed, but its Python does not run: {error}", error.log_tail
        ) from error
    imports = result.get("imports")
    faults = {module: fault for module, fault in imports.items() if fault} if isinstance(imports, dict) else {}
    for module, fault in faults.items():
        raise CreationError(
            f"The environment {spec.name} was installed, but {module} cannot be imported in it: {fault}"
        )
    log.with_suffix(".job.json").unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    return Manifest(
        schema=managed.MANIFEST_SCHEMA,
        name=spec.name,
        spec_digest=spec.digest,
        backend=backend if "torch" in spec.imports or torch_builds.wants_torch(spec.requirements) else "",
        python_version=python_version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        size_bytes=managed.size_of(making),
        versions=versions_in(site_packages(interpreter.python)),
        notes=notes,
    )


def _install(
    making: Path, spec: EnvironmentSpec, backend: str, python_version: str, uv: PackageInstaller
) -> tuple[str, ...]:
    """Install the requirements with torch's build for `backend`; returns the decisions made."""
    arguments = ["pip", "install", "--python", str(making / "bin" / "python"), *spec.requirements]
    for package, settings in spec.build.items():
        for name, value in settings.items():
            arguments += ["--config-settings-package", f"{package}:{name}={value}"]
    if spec.overrides:
        overrides = making / "kasoku-overrides.txt"
        write_atomically(overrides, ("\n".join(spec.overrides) + "\n").encode())
        arguments += ["--overrides", str(overrides)]
    major, minor = (int(part) for part in python_version.split(".")[:2])
    local = torch_builds.local_wheels(uv.find_links, (major, minor), spec.requirements)
    if backend == torch_builds.CUDA and local:
        # a "+cpu" build counts as newer than the plain one of the same version, and torch may come with another package
        constraints = making / "kasoku-constraints.txt"
        write_atomically(constraints, "".join(f"torch!={version}\n" for version in local).encode())
        arguments += ["--constraints", str(constraints)]
    if backend == torch_builds.CUDA or not torch_builds.wants_torch(spec.requirements):
        _must(uv(*arguments), spec)
        return ()
    if backend == torch_builds.CPU and (version := torch_builds.newest(local)) is not None:
        note = f"torch {version} from the local wheel {local[version].name}"
        uv.say(note)
        _must(uv(*arguments, f"torch=={version}"), spec)
        return (note,)
    outcome = uv(*arguments, f"--torch-backend={backend}")
    if outcome[0] != 0 and backend == torch_builds.CPU and any(word in outcome[1].lower() for word in NETWORK_WORDS):
        note = "PyTorch's CPU index cannot be reached: taking the larger default build of torch, which also runs here"
        uv.say(note)
        _must(uv(*arguments), spec)
        return (note,)
    _must(outcome, spec)
    return ()


def _must(outcome: tuple[int | None, str], spec: EnvironmentSpec) -> None:
    status, said = outcome
    if status != 0:
        raise CreationError(f"uv could not install the environment {spec.name}: {cause(said)}", said)


def _version_of(folder: Path) -> str:
    """A virtual environment's Python version, from its pyvenv.cfg."""
    for line in read_regular(folder / "pyvenv.cfg").decode().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "version_info":
            return value.strip()
    raise CreationError(f"uv created an environment in {folder} without recording its Python version.")
