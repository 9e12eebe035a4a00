# mypy: ignore-errors
# It runs in the runner, where mypy does not go.
"""An engine with one flaw, named by its option `flaw`: what a flag must find in a real run. It needs no torch.

Each token is sent when it is due or later, and is stamped with the moment at which it was due: how fast it generates is
what the flaw makes of it, whatever else the machine has to do.
"""

from __future__ import annotations

import time
from pathlib import Path

from kasoku_engine import Engine

RATE = 200.0
JOINED_IN = 4  # the request in which another process joins the GPU
ALONE_S = 1.0  # what comes earlier may have been there before the block
DEADLINE_S = 60


class Flawed(Engine):
    """Counts up from the last prompt id."""

    def load(self, job: dict) -> dict:
        self.flaw = job["options"].get("flaw")
        self.signs = Path(job["options"].get("signs", "/nowhere"))
        if self.flaw == "shared":
            (self.signs / "context").touch()
            self.alone_until = time.monotonic() + ALONE_S
        self.timed = sum(not entry["warmup"] for entry in job["requests"])
        sampling = {"do_sample": False, "repetition_penalty": 1.0}
        if self.flaw == "sampling":
            sampling["repetition_penalty"] = 1.3
        dtype = "float16" if self.flaw == "dtype" else job["dtype"]
        return {"dtype": dtype, "device": "cpu", "resolved": {"sampling": sampling}}

    def generate(self, request: object, emit: object) -> str:
        count, pause = request.max_new_tokens, 1 / RATE
        if self.flaw == "lengths" and request.number == 1:
            count -= 3
        if self.flaw == "cold" and request.number == 0:
            pause *= 2
        if self.flaw == "shared" and request.number == JOINED_IN:
            self.let_another_join()
        if self.flaw == "drift":
            pause *= 1 + 0.5 * request.number / self.timed
        due = time.perf_counter()
        emit._clock = lambda: round(due * 1e9)
        for number in range(count):
            due += pause
            time.sleep(max(0.0, due - time.perf_counter()))
            emit([number + 1])
        return "length"

    def let_another_join(self) -> None:
        time.sleep(max(0.0, self.alone_until - time.monotonic()))
        (self.signs / "other").touch()
        end = time.monotonic() + DEADLINE_S
        while not (self.signs / "listed").exists():
            if time.monotonic() > end:
                raise RuntimeError("the driver was never asked for its processes")
            time.sleep(0.01)

    def cached_prompt_tokens(self) -> int:
        return 3 if self.flaw == "cache" else 0

    def evidence(self) -> dict:
        return {
            "cache": "none" if self.flaw == "off" else "dynamic",
            "recompiles_timed": 2 if self.flaw == "recompiles" else 0,
            "sampling": {"choice": "greedy"},
            "incomparable": ["float16 instead of bfloat16", "top_p 1, which is its default"]
            if self.flaw == "incomparable"
            else [],
        }

    def greedy(self, prompt_ids: list) -> dict:
        ids = [prompt_ids[-1], 5, 6, 7]
        return {"ids": [*ids[:2], 9, 7] if self.flaw == "words" else ids, "margins": [2.0, 1.0, 0.125, 3.0]}

    def close(self) -> None:
        if self.flaw == "shared":
            (self.signs / "context").unlink()


ENGINE = Flawed
