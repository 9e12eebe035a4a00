"""vLLM's `LLM` alone, as a good engineer would time it: nothing of Kasoku is imported here.

    PYTHON -I bare_vllm.py SETTINGS.json

SETTINGS holds model_folder, prompt_ids, max_new_tokens, warmups and requests. A response comes whole, at its end.
Prints {"tokens_per_second": [one a timed request], "ids": [greedy ids of the last response]}.
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
import time
from pathlib import Path

import vllm


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    tokens = settings["max_new_tokens"]
    model = vllm.LLM(
        settings["model_folder"],
        dtype="bfloat16",
        skip_tokenizer_init=True,
        max_num_seqs=1,
        max_model_len=128,
        kv_cache_memory_bytes=64 << 20,
        enable_prefix_caching=False,
    )
    sampling = vllm.SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)

    speeds = []
    for number in range(settings["warmups"] + settings["requests"]):
        began = time.perf_counter()
        output = model.generate({"prompt_token_ids": settings["prompt_ids"]}, sampling, use_tqdm=False)[0]
        response = list(output.outputs[0].token_ids)
        if number >= settings["warmups"]:
            speeds.append(len(response) / (time.perf_counter() - began))
    print(json.dumps({"tokens_per_second": speeds, "ids": response}))


if __name__ == "__main__":
    main()
