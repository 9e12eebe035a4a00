"""vLLM's `AsyncLLM` alone, streamed as a good engineer would time it: nothing of Kasoku is imported here.

    PYTHON -I bare_vllm.py SETTINGS.json

SETTINGS holds model_folder, prompt_ids, threads, max_new_tokens, warmups and requests. Every token is taken as it
comes. Prints {"tokens_per_second": [one a timed request], "ids": [greedy ids of the last response]}.
"""

# mypy: disable-error-code="import-not-found"

import asyncio
import json
import os
import sys
import time
from pathlib import Path

SETTINGS = json.loads(Path(sys.argv[1]).read_text())
# read when vLLM is imported, also by its workers: by itself it leaves a core alone
os.environ.update(VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS=str(SETTINGS["threads"]))


async def measured() -> dict[str, list[float] | list[int]]:
    """Each timed request's tokens/s, from its start to its last token, and the ids of the last one."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            SETTINGS["model_folder"],
            dtype="bfloat16",
            skip_tokenizer_init=True,
            max_num_seqs=1,
            max_model_len=128,
            kv_cache_memory_bytes=64 << 20,
            enable_prefix_caching=False,
            disable_log_stats=True,
        )
    )
    sampling = SamplingParams(
        temperature=0,
        max_tokens=SETTINGS["max_new_tokens"],
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    speeds: list[float] = []
    for number in range(SETTINGS["warmups"] + SETTINGS["requests"]):
        began = ended = time.perf_counter()
        response: list[int] = []
        prompt = {"prompt_token_ids": SETTINGS["prompt_ids"]}
        async for output in engine.generate(prompt, sampling, request_id=str(number)):
            response.extend(output.outputs[0].token_ids)
            ended = time.perf_counter()
        if number >= SETTINGS["warmups"]:
            speeds.append(len(response) / (ended - began))
    engine.shutdown()
    return {"tokens_per_second": speeds, "ids": response}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured())))
