"""How long the fuzzing runs: quick and the same every time, or as long as $KASOKU_FUZZ_EXAMPLES says and drawn anew.

KASOKU_FUZZ_EXAMPLES=20000 python -m pytest tests/fuzz
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONG = os.environ.get("KASOKU_FUZZ_EXAMPLES")
QUICK_EXAMPLES = 100


def fuzzed(share: float = 1.0) -> settings:
    """Settings of a test; `share` of the usual number of examples for one that is slow."""
    examples = int(LONG) if LONG else QUICK_EXAMPLES
    return settings(
        max_examples=max(10, int(examples * share)),
        deadline=None,
        derandomize=LONG is None,
        suppress_health_check=list(HealthCheck),
    )
