"""CUDA C++ compiled for one card while running, by NVRTC, which torch for CUDA brings along."""

from __future__ import annotations

import ctypes
import hashlib
import os
from pathlib import Path

import kasoku_kept as kept


class CannotCompileError(Exception):
    """NVRTC is not there, or does not take the source; the message is a sentence."""


def compiled(source: str, architecture: str, macros: dict) -> bytes:
    """Machine code (a cubin) for an architecture such as sm_90; kept beside what Triton compiled, and found there.

    Raises CannotCompileError.
    """
    library = found()
    options = ["--gpu-architecture=" + architecture, "--std=c++17", "-default-device"]
    options += ["-D%s=%s" % each for each in sorted(macros.items())]
    made_of = "\0".join([source, version(library), *options])
    name = "kasoku-%s.cubin" % hashlib.sha256(made_of.encode()).hexdigest()[:24]
    code = kept.read(name)
    if code is None:
        code = compile_now(library, source, options)
        kept.keep(name, code)
    return code


def found() -> object:
    """The library, of the CUDA that torch was made for."""
    import torch

    name = "libnvrtc.so.%s" % (torch.version.cuda or "").split(".")[0]
    folders = [Path(torch.__file__).parent.parent / "nvidia" / part for part in ("cu13/lib", "cuda_nvrtc/lib")]
    folder = next((each for each in folders if os.path.exists(each / name)), None)
    try:
        for builtins in [] if folder is None else folder.glob("libnvrtc-builtins.so*"):
            ctypes.CDLL(str(builtins))  # NVRTC looks for it by its name alone
        return ctypes.CDLL(name if folder is None else str(folder / name))
    except OSError as error:
        raise CannotCompileError("NVRTC, which torch usually brings along, was not found (%s)." % name) from error


def version(library: object) -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return "%d.%d" % (major.value, minor.value)


def compile_now(library: object, source: str, options: list) -> bytes:
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kasoku.cu", 0, None, None)
    try:
        given = (ctypes.c_char_p * len(options))(*(each.encode() for each in options))
        if library.nvrtcCompileProgram(program, len(options), given) != 0:
            log = read(program, library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog)
            lines = log.decode("utf-8", "replace").strip("\0 \n").splitlines() or ["it gave no reason"]
            raise CannotCompileError(
                "NVRTC %s could not compile a kernel: %s." % (version(library), lines[0].rstrip("."))
            )
        return read(program, library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def read(program: object, size_of: object, get: object) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    get(program, buffer)
    return buffer.raw
