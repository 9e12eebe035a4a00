"""transformers' continuous batching alone with so many requests in flight: nothing of Kasoku is imported here.

    PYTHON -P bare_load_transformers.py SETTINGS.json

SETTINGS and what is printed are those of bare_load_vllm.py; SETTINGS has `device` as well.
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

PAGE = 256


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(settings["threads"])
    loads, new = settings["loads"], settings["max_new_tokens"]
    most, length = max(load["concurrency"] for load in loads), len(loads[0]["prompts"][0]) + new
    model = AutoModelForCausalLM.from_pretrained(settings["model_folder"], dtype=getattr(torch, settings["dtype"]))
    model = model.to(settings["device"]).eval()
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=most * -(-length // PAGE) + 1,
            max_batch_tokens=max(length, min(most * length, 4096)),
            max_requests_per_batch=most,
            allow_block_sharing=False,
            auto_switch_to_flash=False,
        ),
    )
    manager.warmup()
    manager.start()

    def served(prompts: list[list[int]], in_flight: int) -> list[tuple[int, list[int]]]:
        taken: dict[str, tuple[int, list[int]]] = {}
        left, going = iter(prompts), 0
        while True:
            while going < in_flight and (prompt := next(left, None)) is not None:
                began = time.perf_counter_ns()
                name = manager.add_request(list(prompt), max_new_tokens=new, streaming=True, eos_token_id=-1)
                taken[name] = (began, [])
                going += 1
            if not going:
                return list(taken.values())
            said = manager.get_result(timeout=60)
            times = taken[said.request_id][1]
            times.extend([time.perf_counter_ns()] * (len(said.generated_tokens) - len(times)))
            going -= said.is_finished()

    for load in loads:
        served(load["prompts"][: load["concurrency"]], load["concurrency"])
    found = [served(load["prompts"][load["concurrency"] :], load["concurrency"]) for load in loads]
    manager.stop(block=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
