"""What OpenVINO's packages report to their makers, kept from them."""

from __future__ import annotations

import sys


def without_telemetry() -> None:
    """To be called before `import openvino`, which reports that it was imported where this package is there."""
    sys.modules["openvino_telemetry"] = None
