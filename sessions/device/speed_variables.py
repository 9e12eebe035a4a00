"""The environment variables that a session keeps, because they steer how fast a method runs: no others are stored."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from methods.base.interpreter import Interpreter
from methods.base.secret_variables import without_secrets
from probes.host.surroundings import Variable

BEGINNINGS: Final = (
    "OMP_", "GOMP_", "KMP_", "LIBOMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "BLAS_", "VECLIB_", "NUMEXPR_", "TBB_",
    "DNNL_", "ONEDNN_", "ATEN_", "CUDA_", "CUBLAS_", "CUBLASLT_", "CUDNN_", "CUTLASS_", "NVIDIA_", "NCCL_", "HIP_",
    "HSA_", "PYTORCH_", "TORCH_", "TORCHINDUCTOR_", "TORCHDYNAMO_", "INDUCTOR_", "AOT_", "TRITON_", "VLLM_", "SGLANG_",
    "FLASHINFER_", "FLASH_ATTENTION_", "XFORMERS_", "TOKENIZERS_", "RAYON_", "TRANSFORMERS_", "ACCELERATE_",
    "SAFETENSORS_", "MALLOC_", "TCMALLOC_", "MIMALLOC_", "JEMALLOC_",
)  # fmt: skip
NAMES: Final = (
    "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_BIND_NOW", "GLIBC_TUNABLES", "CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS",
)  # fmt: skip
PLACES: Final = re.compile(r"_(HOME|CACHE|DIR|FOLDER|ROOT)$|_CACHE_|_LOG")  # where files go steers nothing


def is_kept(name: str) -> bool:
    """Whether a variable of this name is kept."""
    return name in NAMES or (name.startswith(BEGINNINGS) and PLACES.search(name) is None)


def speed_variables(
    inherited: Mapping[str, str], interpreters: Iterable[Interpreter], pinned: Collection[str]
) -> Iterator[Variable]:
    """Those that runners inherit and those that their environments set, without the names that Kasoku pins itself
    (only an environment can override these) and without what looks like a secret."""
    for name, value in sorted(without_secrets(inherited).items()):
        if is_kept(name) and name not in pinned:
            yield Variable(name=name, value=value)
    for environment, variables in sorted({each.environment: each.variables for each in interpreters}.items()):
        for name, value in sorted(without_secrets(variables).items()):
            if is_kept(name):
                yield Variable(name=name, value=value, environment=environment)
