"""OpenVINO alone, as a good engineer would time it: nothing of Kasoku is imported here.

    PYTHON -I bare_openvino.py SETTINGS.json

SETTINGS holds converted_folder, dtype, threads, prompt_ids, max_new_tokens, warmups and requests.
Prints {"tokens_per_second": [one a timed request], "ids": [greedy ids of the last response]}.
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
import time
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13

HINTS = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    core = openvino.Core()
    model = core.read_model(settings["converted_folder"] + "/openvino_model.xml")
    head = model.output("logits").get_node().input_value(0).get_node()  # the product of a Llama's last layer
    last, step, end = (opset13.constant(np.array([value], np.int64)) for value in (-1, 1, 2**31 - 1))
    head.input(0).replace_source_output(opset13.slice(head.input_value(0), last, end, step, step).output(0))
    model.validate_nodes_and_infer_types()
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": settings["threads"],
        "INFERENCE_PRECISION_HINT": HINTS[settings["dtype"]],
    }
    request = core.compile_model(model, "CPU", properties).create_infer_request()

    speeds = []
    for number in range(settings["warmups"] + settings["requests"]):
        began = time.perf_counter()
        request.reset_state()
        response: list[int] = []
        new, length = settings["prompt_ids"], 0
        while len(response) < settings["max_new_tokens"]:
            inputs = {
                "input_ids": np.array([new], np.int64),
                "attention_mask": np.ones((1, length + len(new)), np.int64),
                "position_ids": np.arange(length, length + len(new), dtype=np.int64)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
            request.infer(inputs, share_inputs=True, share_outputs=True)
            length += len(new)
            new = [int(request.get_tensor("logits").data[0, -1].argmax())]
            response += new
        if number >= settings["warmups"]:
            speeds.append(len(response) / (time.perf_counter() - began))
    print(json.dumps({"tokens_per_second": speeds, "ids": response}))


if __name__ == "__main__":
    main()
