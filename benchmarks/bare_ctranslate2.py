"""CTranslate2 alone, as a good engineer would time it: nothing of Kasoku is imported here.

    PYTHON -I bare_ctranslate2.py SETTINGS.json

SETTINGS holds converted_folder, threads, prompt_ids, max_new_tokens, warmups and requests.
Prints {"tokens_per_second": [one a timed request], "ids": [greedy ids of the last response]}.
"""

# mypy: disable-error-code="import-not-found"

import json
import os
import sys
import time
from pathlib import Path

os.environ["CT2_USE_MKL"] = "1"  # by itself it takes oneDNN on a processor of AMD, many times slower in floats

import ctranslate2


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    generator = ctranslate2.Generator(
        settings["converted_folder"], compute_type="float32", inter_threads=1, intra_threads=settings["threads"]
    )
    prompt = [str(token) for token in settings["prompt_ids"]]

    speeds = []
    for number in range(settings["warmups"] + settings["requests"]):
        began = time.perf_counter()
        result = generator.generate_batch(
            [prompt],
            max_length=settings["max_new_tokens"],
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=[],
        )[0]
        response = list(result.sequences_ids[0])
        if number >= settings["warmups"]:
            speeds.append(len(response) / (time.perf_counter() - began))
    print(json.dumps({"tokens_per_second": speeds, "ids": response}))


if __name__ == "__main__":
    main()
