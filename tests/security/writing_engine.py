# mypy: ignore-errors
# It runs in the runner, where mypy does not go.
"""A user's engine, standard library only, that writes files as engines do: without a thought for who may read them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kasoku_engine import Engine

CHILD = "import os, sys; open(os.path.join(sys.argv[1], 'from-a-child'), 'w').write('x')"


class Writing(Engine):
    def load(self, job: dict) -> dict:
        print("engine said so")
        for variable in (
            *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT", "CUDA_CACHE_PATH"),
            *("SGLANG_CACHE_DIR", "TVM_FFI_CACHE_DIR"),
        ):
            cache = Path(os.environ[variable])
            (cache / "plain-folder").mkdir(exist_ok=True)
            (cache / "plain-folder" / "inductor-cache.so").write_bytes(b"x")
            subprocess.run([sys.executable, "-c", CHILD, str(cache)], check=True)
        return {"weights_bytes": 0, "dtype": job["dtype"], "device": "cpu", "threads": 1}

    def generate(self, request: object, emit: object) -> str:
        for number in range(request.max_new_tokens):
            emit([number % 64])
        return "length"

    def evidence(self) -> dict:
        return {"cache": "dynamic"}


ENGINE = Writing
