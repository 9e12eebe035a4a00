"""The same workplaces as the tests of sessions have."""

from __future__ import annotations

from tests.sessions.conftest import shared_work, work

__all__ = ["shared_work", "work"]
