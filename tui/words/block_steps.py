"""The steps of a block in words."""

from __future__ import annotations

from typing import Final

STEPS: Final = (  # of a block, in its order, with the words for each
    ("import", "starting"),
    ("load", "loading the model"),
    ("warmup", "warming up, compiling"),
    ("timed", "timing"),
    ("evidence", "checking it was in effect"),
    ("greedy", "writing greedily"),
    ("fidelity", "scoring its fidelity"),
    ("close", "closing"),
)
SHORT: Final = {"import": "start", "warmup": "warm-up", "timed": "time", "evidence": "check"}
