"""Sessions and journals of any size, as benchmarks/scale.py measures them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATTERNS = 4
TOKENS_EACH = 250
METHOD_COUNT, BLOCKS = 4, 5
SPEED = 500.0
IN_FLIGHT, STEP_NS, STEPS = 256, 5_120_000, 10  # 50,000 tokens/s, and the steps of a record


def make_sessions(home: Path, count: int) -> None:
    """A store of so many sessions; what is there already is kept."""
    import msgspec

    from tests.tui.journals import METHODS, make_plan, write_session

    sessions = home / "sessions"
    sessions.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        patterns = [
            write_session(
                Path(name),
                make_plan(METHODS[: 2 + place], requests=6, blocks=3, tokens=32),
                session=f"20250101-00000{place}-aaaaaa",
            )
            for place in range(PATTERNS)
        ]
        read = [(folder.path, folder.read(), folder.plan()) for folder in patterns]
        for number in range(len(os.listdir(sessions)), count):  # noqa: PTH208
            path, session, plan = read[number % PATTERNS]
            moment = 1_750_000_000 + number * 733
            day = time.strftime("%Y%m%d-%H%M%S", time.gmtime(moment))
            target = sessions / f"{day}-{number:06x}"
            target.mkdir(mode=0o700)
            changed = msgspec.structs.replace(
                session,
                id=target.name,
                created_ns=moment * 10**9,
                name=f"try {number} of batch {number // 25}" if number % 3 == 0 else "",
                tags=["nightly", f"week{number // 800}"] if number % 5 == 0 else [],
                plan=dataclasses.replace(session.plan, model=f"org{number % 7}/model-{number % 50}"),
            )
            (target / "session.json").write_bytes(msgspec.json.format(msgspec.json.encode(changed), indent=1))
            (target / "plan.json").write_bytes(msgspec.json.encode(plan))
            os.utime(target / "session.json", (moment, moment))
            (target / "lock").touch(0o600)
            for file in ("journal.ndjson", "runs.parquet", "requests.parquet", "tokens.parquet", "telemetry.parquet"):
                shutil.copyfile(path / file, target / file)


def make_journal(home: Path, tokens: int) -> None:
    """A session whose journal is written and whose frames are not."""
    from sessions.disk.journal import JournalWriter
    from sessions.disk.session_folder import create
    from tests.tui.journals import METHODS, Script, make_plan, make_tokeniser

    tokeniser = home / "models" / "small"
    ids = make_tokeniser(tokeniser)
    requests = tokens // (METHOD_COUNT * TOKENS_EACH) - BLOCKS  # a warm-up a block
    plan = make_plan(METHODS[:METHOD_COUNT], requests=max(BLOCKS, requests), blocks=BLOCKS, tokens=TOKENS_EACH)
    folder, lock = create(home / "sessions", plan)
    journal = JournalWriter(folder.path)
    for record in Script(plan, folder.id, str(tokeniser), ids, speeds=dict.fromkeys(METHODS, SPEED)).records():
        journal.append(record)
    journal.close()
    os.close(lock)


def make_load_journal(home: Path, tokens: int) -> None:
    """The same of a load, whose requests begin and end together, and each of whose steps gives all of them a token."""
    from sessions.disk.journal import JournalWriter
    from sessions.disk.point import Point
    from sessions.disk.records import (
        AnyRecord,
        BlockEnded,
        BlockPhase,
        BlockStarted,
        ManyTokens,
        PointEnded,
        PointStarted,
        RequestEnded,
        RequestStarted,
        RequestTokens,
    )
    from sessions.disk.session_folder import create
    from tests.tui.journals import METHODS, Script, make_plan, make_tokeniser

    tokeniser = home / "models" / "small"
    words = make_tokeniser(tokeniser)
    waves = -(-tokens // (METHOD_COUNT * BLOCKS * IN_FLIGHT * TOKENS_EACH))
    point = Point(name=f"c{IN_FLIGHT}", concurrency=IN_FLIGHT, requests=waves * IN_FLIGHT)
    plan = make_plan(METHODS[:METHOD_COUNT], blocks=BLOCKS, tokens=TOKENS_EACH)
    plan = dataclasses.replace(plan, points=[point], warmup=0)

    class LoadScript(Script):
        def _block(
            self, method: str, block: int, requests: list[int], position: int, whole: bool
        ) -> Iterator[AnyRecord]:
            at: dict[str, Any] = {"method": method, "block": block}
            yield BlockStarted(t=self.now, position=position, of=METHOD_COUNT * BLOCKS, environment="torch", **at)
            yield BlockPhase(t=self.now, phase="timed", **at)
            yield PointStarted(t=self.now, place=0, **at)
            for wave in range(0, len(requests), IN_FLIGHT):
                yield from self._wave(requests[wave : wave + IN_FLIGHT], at)
            yield PointEnded(t=self.now, place=0, status="ok", **at)
            yield BlockEnded(t=self.now, status="ok" if whole else "stopped", **at)

        def _wave(self, numbers: list[int], at: dict[str, Any]) -> Iterator[AnyRecord]:
            for number in numbers:
                yield RequestStarted(t=self.now, request=number, warmup=False, prompt_tokens=4, **at)
            for index in range(0, TOKENS_EACH, STEPS):
                times = list(range(self.now + STEP_NS, self.now + STEP_NS * (STEPS + 1), STEP_NS))
                yield from self._pass(STEP_NS * STEPS, 1.0)
                ids: list[list[int | None]] = [
                    [words[(number + index + step) % len(words)] for step in range(STEPS)] for number in range(8)
                ]
                said = [RequestTokens(number, index, times, ids[number % 8]) for number in numbers]
                yield ManyTokens(t=times[-1], tokens=said, **at)
            for number in numbers:
                yield RequestEnded(t=self.now, request=number, finish="length", output_tokens=TOKENS_EACH, **at)

    folder, lock = create(home / "sessions", plan)
    journal = JournalWriter(folder.path)
    for record in LoadScript(plan, folder.id, str(tokeniser), words, speeds={}).records():
        journal.append(record)
    journal.close()
    os.close(lock)
