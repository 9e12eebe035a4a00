"""benchmarks/faults.py by a few: a hangup, a full disk and wrong surroundings; kills and stops are in test_kills."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults.py"
FEW = ("--kills", "0", "--stops", "0", "--hangups", "1", "--full-disks", "1", "--seed", "2")


def test_a_few_faults_leave_sound_sessions() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), *FEW], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 sessions broken and sound afterwards, 0 failed" in done.stdout


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the library that has calls fail is built with gcc")
def test_commands_in_twenty_wrong_surroundings_end_with_a_sentence() -> None:
    command = [sys.executable, str(SCRIPT), "--surroundings", "20", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 3: 20 trials, 0 failed" in done.stdout


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the library that has calls fail is built with gcc")
@pytest.mark.parametrize(
    ("seed", "trial"),
    [
        pytest.param(71, 894, id="a circle of links at Kasoku's own file"),
        pytest.param(74, 441, id="a catalogue that cannot be read"),
        pytest.param(74, 832, id="a session.json that can be read once"),
    ],
)
def test_a_surrounding_that_failed_once_ends_with_a_sentence(seed: int, trial: int) -> None:
    command = [sys.executable, str(SCRIPT.with_name("surroundings.py")), "--seed", str(seed), "--only", str(trial)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {seed}: 1 trials, 0 failed" in done.stdout
