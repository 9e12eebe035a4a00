"""transformers alone, as a good engineer would time it: nothing of Kasoku is imported here.

    PYTHON -I bare_generate.py SETTINGS.json

SETTINGS holds method, model_folder, dtype, threads, device, prompt_ids, max_new_tokens, warmups and requests.
Prints {"tokens_per_second": [one a timed request], "ids": [greedy ids of the last response]}.
"""

# mypy: disable-error-code="import-not-found"

import contextlib
import json
import sys
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, CompileConfig


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(settings["threads"])
    method, device = settings["method"], settings["device"]
    model = AutoModelForCausalLM.from_pretrained(
        settings["model_folder"],
        dtype=getattr(torch, settings["dtype"]),
        attn_implementation="eager" if method == "baseline" else "sdpa",
    ).to(device)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    more: dict[str, object] = {}
    if method == "torch-compile":
        more["cache_implementation"] = "static"
        if device == "cpu":
            compiling = CompileConfig()
            compiling._compile_all_devices = True
            more["compile_config"] = compiling
    ids = torch.tensor([settings["prompt_ids"]], device=device)
    mask = torch.ones_like(ids)

    speeds = []
    for number in range(settings["warmups"] + settings["requests"]):
        kernels = (
            sdpa_kernel([SDPBackend.FLASH_ATTENTION]) if method == "flash-attention-2" else contextlib.nullcontext()
        )
        began = time.perf_counter()
        with kernels:
            output = model.generate(
                ids, attention_mask=mask, do_sample=False, max_new_tokens=settings["max_new_tokens"], **more
            )
        response = output[0, ids.shape[1] :].tolist()  # on a GPU this waits until the ids are there
        if number >= settings["warmups"]:
            speeds.append(len(response) / (time.perf_counter() - began))
    print(json.dumps({"tokens_per_second": speeds, "ids": response}))


if __name__ == "__main__":
    main()
