"""The environment variables of a runner: the user's that it may have, and those that pin what is measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from methods.base.home import private_folder
from methods.base.interpreter import Interpreter
from methods.base.secret_variables import without_secrets
from methods.catalogue.compiler_paths import compiled_folder
from methods.catalogue.native_code import compiler_variables
from sessions.disk.plan import Plan

ALL: Final = slice(None)
NOT_INHERITED: Final = ("PYTHON", "VIRTUAL_ENV", "CONDA_", "KASOKU_", "TEXTUAL", "UV_", "PIP_")


def inherited_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment variables, minus secrets, Python's own and those of tools around it."""
    return {name: value for name, value in without_secrets(environ).items() if not name.startswith(NOT_INHERITED)}


def pinned_variables(plan: Plan, environment: str, cache: Path, gpus: slice = ALL) -> dict[str, str]:
    """Those that pin a run on `gpus` of the plan's, whatever the user has set."""
    compiled = private_folder(compiled_folder(cache, environment))
    return {
        "HF_HUB_OFFLINE": "1",
        **device_variables(plan, gpus),
        "TORCHINDUCTOR_CACHE_DIR": str(private_folder(compiled / "inductor")),
        "TRITON_CACHE_DIR": str(private_folder(compiled / "triton")),
        "VLLM_CACHE_ROOT": str(private_folder(compiled / "vllm")),
        "SGLANG_CACHE_DIR": str(private_folder(compiled / "sglang")),
        "TVM_FFI_CACHE_DIR": str(private_folder(compiled / "tvm-ffi")),  # SGLang's kernels
        "CUDA_CACHE_PATH": str(private_folder(compiled / "cuda")),
    }


def device_variables(plan: Plan, gpus: slice = ALL) -> dict[str, str]:
    """Those that give a runner `gpus` of the session's, or its CPU, and the number of threads."""
    return {
        "OMP_NUM_THREADS": str(plan.threads),
        "MKL_NUM_THREADS": str(plan.threads),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "" if plan.device == "cpu" else ",".join(plan.gpu_visible[gpus]) or plan.device,
    }


def runner_variables(
    environ: Mapping[str, str],
    plan: Plan,
    interpreter: Interpreter,
    cache: Path,
    sockets: Path | None = None,
    gpus: slice = ALL,
) -> dict[str, str]:
    """A block's environment variables: inherited, then pinned, then its environment's own.

    `sockets` is where an engine's processes may put theirs, if the user names no other place. It gets `gpus` of the
    plan's.
    """
    kept = inherited_variables(environ)
    kept |= compiler_variables(kept | dict(interpreter.variables))
    kept |= pinned_variables(plan, interpreter.environment, cache, gpus)
    if sockets is not None:
        kept.setdefault("VLLM_RPC_BASE_PATH", str(sockets))
        kept["KASOKU_SOCKETS"] = str(sockets)
    if interpreter.paths:
        kept["PYTHONPATH"] = os.pathsep.join(interpreter.paths)  # for what an engine starts by itself
    return kept | dict(interpreter.variables)
