"""What surrounds the blocks of a session: the variables that change how fast they are, and the cores they run on."""

from __future__ import annotations

import os
from pathlib import Path

from probes.host.surroundings import Surroundings, surroundings
from sessions.device.affinity import shared_out
from sessions.device.speed_variables import speed_variables
from sessions.disk.plan import Plan
from sessions.disk.records import Prepared
from sessions.run.runner_variables import inherited_variables, pinned_variables


def surroundings_of(plan: Plan, prepared: Prepared, cache: Path) -> Surroundings:
    """Those of the session's blocks, before the first."""
    interpreters = {each.environment: each for each in prepared.interpreters.values()}.values()
    pinned = {name for each in interpreters for name in pinned_variables(plan, each.environment, cache)}
    variables = speed_variables(inherited_variables(os.environ), interpreters, pinned)
    return surroundings(variables, shared_out().runner)
