# mypy: ignore-errors
# It runs in the runner, where mypy does not go.
"""A user's engine, standard library only, that tells all it knows of its environment, everywhere it can."""

from __future__ import annotations

import os
import sys

from kasoku_engine import Engine

RAISING = 1


class Telling(Engine):
    def load(self, job: dict) -> dict:
        told = dict(os.environ)
        print(told)
        print(told, file=sys.stderr)
        return {
            "weights_bytes": 0,
            "dtype": job["dtype"],
            "device": "cpu",
            "threads": 1,
            "versions": {"telling": "1"},
            "resolved": {"environment": told},
        }

    def generate(self, request: object, emit: object) -> str:
        if request.number == RAISING:
            raise ValueError(f"in the middle: {dict(os.environ)}")
        emit([number % 64 for number in range(request.max_new_tokens)])
        return "length"

    def evidence(self) -> dict:
        return {"cache": "dynamic", "environment": dict(os.environ)}

    def close(self) -> None:
        raise ValueError(f"the end: {dict(os.environ)}")


ENGINE = Telling
