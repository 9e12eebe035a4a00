# mypy: ignore-errors
# It runs in the runner, where mypy does not go.
"""An engine that serves many requests at once, with one flaw of a load, named by its option `flaw`: what a flag must
find in a real run. It needs no torch. One that `stalls` does nothing for `stall_s` after a request.
"""

from __future__ import annotations

import time

from kasoku_engine import Engine

TOKEN_S = 0.005
EARLY = 3  # the timed request that ends before its length
STALLS = 1  # the timed request after which nothing is done for a while


class FlawedServing(Engine):
    """Counts up from 1, a token of each request in flight at a time."""

    def load(self, job: dict) -> dict:
        self.flaw, self.stall_s = job["options"].get("flaw"), job["options"].get("stall_s", 0.0)
        return {"dtype": job["dtype"], "device": "cpu"}

    def cannot_serve(self, point: object) -> str:
        return ""

    def serve(self, load: object) -> None:
        going = []  # (request, how many of its tokens have come)
        while not load.over:
            going += [[request, 0] for request in load.take()]
            if not going:
                time.sleep(load.wait_s() or 0.0)
            time.sleep(TOKEN_S)
            for entry in going[:1] if self.flaw == "serial" else list(going):
                entry[1] += 1
                self.emit(load, *entry)
            going = [entry for entry in going if entry[1] < self.length(entry[0])]

    def emit(self, load: object, request: object, number: int) -> None:
        load.emit(request, [number])
        if number == self.length(request):
            request.cached_prompt_tokens = 3 if self.flaw == "cache" and not request.warmup else 0
            load.end(request, "length" if number == request.max_new_tokens else "eos")
            if self.flaw == "stalls" and request.number == STALLS:
                time.sleep(self.stall_s)

    def length(self, request: object) -> int:
        early = self.flaw == "ends-early" and request.number == EARLY
        return request.max_new_tokens // 2 if early else request.max_new_tokens

    def evidence(self) -> dict:
        return {"cache": "dynamic"}


ENGINE = FlawedServing
