"""vLLM's `AsyncLLM` alone with so many requests in flight: nothing of Kasoku is imported here.

    PYTHON -P bare_load_vllm.py SETTINGS.json

SETTINGS holds model_folder, dtype, threads, max_new_tokens and loads, each of a concurrency and prompts: the first so
many of the prompts are not timed, and before any that is. Every delta is taken as it comes. Prints of each load
[[begin, [each token's time]]] of the others, in nanoseconds.
"""

# mypy: disable-error-code="import-not-found"

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SETTINGS = json.loads(Path(sys.argv[1]).read_text())
# read when vLLM is imported, also by its workers: by itself it leaves a core alone
os.environ.update(VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS=str(SETTINGS["threads"]))
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # as Kasoku has it
LENGTH_STEP = 128


async def measured() -> list[list[tuple[int, list[int]]]]:
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    loads, new = SETTINGS["loads"], SETTINGS["max_new_tokens"]
    most = max(load["concurrency"] for load in loads)
    length = -(-(len(loads[0]["prompts"][0]) + new + 1) // LENGTH_STEP) * LENGTH_STEP
    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            SETTINGS["model_folder"],
            dtype=SETTINGS["dtype"],
            skip_tokenizer_init=True,
            max_num_seqs=most,
            max_model_len=length,
            max_num_batched_tokens=max(length, min(most * length, 8192)),
            kv_cache_memory_bytes=SETTINGS["kv_bytes"],
            gpu_memory_utilization=0.01,
            enable_prefix_caching=False,
            disable_log_stats=True,
        )
    )
    sampling = SamplingParams(
        temperature=0, max_tokens=new, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )

    async def one_after_another(load: int, numbers: Iterator[int], taken: list[tuple[int, list[int]]]) -> None:
        for number in numbers:
            times: list[int] = []
            taken.append((time.perf_counter_ns(), times))
            prompt = {"prompt_token_ids": loads[load]["prompts"][number]}
            async for output in engine.generate(prompt, sampling, request_id=f"{load}-{number}"):
                times.extend([time.perf_counter_ns()] * len(output.outputs[0].token_ids))

    async def served(load: int, timed: bool) -> list[tuple[int, list[int]]]:
        in_flight, count = loads[load]["concurrency"], len(loads[load]["prompts"])
        left, taken = iter(range(in_flight, count) if timed else range(in_flight)), []  # type: ignore[var-annotated]
        await asyncio.gather(*(one_after_another(load, left, taken) for _ in range(in_flight)))
        return taken

    for load in range(len(loads)):
        await served(load, timed=False)
    found = [await served(load, timed=True) for load in range(len(loads))]
    engine.shutdown()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured())))
