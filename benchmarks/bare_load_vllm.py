"""vLLM's `AsyncLLM` alone with so many requests in flight: nothing of Kasoku is imported here.

    PYTHON -I bare_load_vllm.py SETTINGS.json

SETTINGS holds model_folder, dtype, threads, prompts, max_new_tokens, concurrency and warmups: the first so many of the
prompts are not timed. Every delta is taken as it comes. Prints [[begin, [each token's time]]] of the others, in
nanoseconds.
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
LENGTH_STEP = 128


async def measured() -> list[tuple[int, list[int]]]:
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    prompts, in_flight, new = SETTINGS["prompts"], SETTINGS["concurrency"], SETTINGS["max_new_tokens"]
    length = -(-(len(prompts[0]) + new + 1) // LENGTH_STEP) * LENGTH_STEP
    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            SETTINGS["model_folder"],
            dtype=SETTINGS["dtype"],
            skip_tokenizer_init=True,
            max_num_seqs=in_flight,
            max_model_len=length,
            max_num_batched_tokens=max(length, min(in_flight * length, 8192)),
            kv_cache_memory_bytes=SETTINGS["kv_bytes"],
            gpu_memory_utilization=0.01,
            enable_prefix_caching=False,
            disable_log_stats=True,
        )
    )
    sampling = SamplingParams(
        temperature=0, max_tokens=new, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )
    taken: dict[int, tuple[int, list[int]]] = {}

    async def one_after_another(numbers: Iterator[int]) -> None:
        for number in numbers:
            times: list[int] = []
            taken[number] = (time.perf_counter_ns(), times)
            prompt = {"prompt_token_ids": prompts[number]}
            async for output in engine.generate(prompt, sampling, request_id=str(number)):
                times.extend([time.perf_counter_ns()] * len(output.outputs[0].token_ids))

    for part in (range(SETTINGS["warmups"]), range(SETTINGS["warmups"], len(prompts))):
        left = iter(part)
        await asyncio.gather(*(one_after_another(left) for _ in range(in_flight)))
    engine.shutdown()
    return [taken[number] for number in range(SETTINGS["warmups"], len(prompts))]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured())))
