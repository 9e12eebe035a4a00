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


# seed and number of trials that failed once
FAILED_ONCE = {
    "a circle of links at Kasoku's own file": "71:894",
    "a catalogue that cannot be read": "74:441",
    "a session.json that can be read once": "74:832",
}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the library that has calls fail is built with gcc")
def test_surroundings_that_failed_once_end_with_a_sentence() -> None:
    command = [sys.executable, str(SCRIPT.with_name("surroundings.py")), "--only", *FAILED_ONCE.values()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f": {len(FAILED_ONCE)} trials, 0 failed" in done.stdout
