"""onnxruntime-genai alone, as a good engineer would time it: nothing of Kasoku is imported here.

    PYTHON -I bare_onnxruntime.py SETTINGS.json

SETTINGS holds converted_folder, threads, prompt_ids, max_new_tokens, warmups and requests.
Prints {"tokens_per_second": [one a timed request], "ids": [greedy ids of the last response]}.
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime_genai as genai


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    config = genai.Config(settings["converted_folder"])
    config.clear_providers()
    threads = {"intra_op_num_threads": settings["threads"], "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"eos_token_id": [], "decoder": {"session_options": threads}}}))
    model = genai.Model(config)
    prompt = np.array([settings["prompt_ids"]], np.int32)

    speeds = []
    for number in range(settings["warmups"] + settings["requests"]):
        began = time.perf_counter()
        parameters = genai.GeneratorParams(model)
        parameters.set_search_options(max_length=prompt.size + settings["max_new_tokens"], do_sample=False)
        generator = genai.Generator(model, parameters)
        generator.append_tokens(prompt)
        response: list[int] = []
        while len(response) < settings["max_new_tokens"]:
            generator.generate_next_token()
            response.append(int(generator.get_next_tokens()[0]))
        if number >= settings["warmups"]:
            speeds.append(len(response) / (time.perf_counter() - began))
    print(json.dumps({"tokens_per_second": speeds, "ids": response}))


if __name__ == "__main__":
    main()
