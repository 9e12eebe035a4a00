"""What a method's earlier blocks have shown, so that a later one need not do again what takes time and says the same.

A profile is taken again unless everything that a block can tell without one, such as its attention, cache, wrapper and
what it compiled, is as it was in the block of the profile, and that told whether the method was in effect. So is
fidelity scored again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from sessions.disk.messages import SCORED_PATHS
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockPhase,
    EvidenceTaken,
    Header,
    ReferenceScored,
    Scores,
    Unscored,
)
from sessions.frames.counting import block_counts

# Of the evidence, what need not be the same from block to block: vLLM's counters tell a cold cache from a warm one.
OTHERWISE: Final = ("compile_s", "vllm_compilation", "greedy", "missing")
ELSEWHERE: Final = "profiled in an earlier block"


@dataclass(frozen=True, slots=True)
class Known:
    """Of one method: the evidence with a profile that stands for others, whether there is a greedy pass, and what was
    shown by the block whose fidelity was scored."""

    profile: EvidenceTaken | None = None
    greedy: bool = False
    scored: dict[str, object] | None = None

    def of_job(self) -> dict[str, Any]:
        """What a block's runner is told: `profiled`, the facts with which it needs no profile, and `greedy`."""
        profiled = None if self.profile is None else self.shown(self.profile)
        return {"profiled": profiled, "greedy": not self.greedy}

    def shown(self, taken: EvidenceTaken) -> dict[str, object]:
        """What a block can show again without a profile."""
        apart = {*OTHERWISE, *taken.profiled, *(self.profile.profiled if self.profile is not None else ())}
        return {name: fact for name, fact in taken.evidence.items() if name not in apart}

    def complete(self, taken: EvidenceTaken) -> EvidenceTaken:
        """Evidence whose runner has left its profile out, with that of the earlier block; any other as it is."""
        known, missing = self.profile, _missing(taken)
        if known is None or taken.profiled or "profile" in missing:
            return taken
        lent = {name: known.evidence[name] for name in known.profiled if name in known.evidence}
        reasons = {name: reason for name, reason in _missing(known).items() if name in known.profiled}
        evidence = {**lent, **taken.evidence, "missing": {**reasons, **missing}}
        return msgspec.structs.replace(taken, evidence=evidence, profiled_block=known.block)


class KnownEvidence:
    """Feeds on the journal's records. Only blocks that count lend what they have shown."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._latest: dict[tuple[str, int], EvidenceTaken] = {}
        self._scoring: dict[str, int] = {}  # how many blocks have begun to, the one at work among them
        # of the blocks at work: their windows, and paths without
        self._scores: dict[tuple[str, int], set[tuple[str, int | None]]] = {}
        self._windows = 0

    def of(self, method: str) -> Known:
        return self._known.get(method, Known())

    def feed(self, record: AnyRecord) -> None:
        """Take one record in."""
        match record:
            case Header():  # another conductor, perhaps after a restart of the machine: each method shows itself again
                self._known = {name: replace(known, profile=None) for name, known in self._known.items()}
                self._latest = {}
            case ReferenceScored():
                self._windows = len(record.windows)
            case BlockPhase() if record.phase == "fidelity":
                self._scoring[record.method] = self._scoring.get(record.method, 0) + 1
                self._scores[record.method, record.block] = set()
            case Scores() | Unscored():
                window = record.window if isinstance(record, Scores) else None
                self._scores.setdefault((record.method, record.block), set()).add((record.path, window))
            case EvidenceTaken():
                self._latest[record.method, record.block] = record
            case BlockEnded() if (taken := self._latest.pop((record.method, record.block), None)) and block_counts(
                record.status
            ):
                self._learn(taken)
            case _:
                pass

    def _learn(self, taken: EvidenceTaken) -> None:
        known = self.of(taken.method)
        if taken.profiled:
            known = replace(known, profile=taken if taken.in_effect is not None else None)
        if "greedy" in taken.evidence:
            known = replace(known, greedy=True)
        if self._is_scored(taken.method, taken.block):
            known = replace(known, scored=known.shown(taken))
        self._known[taken.method] = known

    def _is_scored(self, method: str, block: int) -> bool:
        """Whether the block that has ended scored all that it could; one that broke off twice will not go further."""
        if (scores := self._scores.pop((method, block), None)) is None:
            return False
        done = [(path, None) in scores or sum(each == path for each, _ in scores) >= self._windows
                for path in SCORED_PATHS]  # fmt: skip
        return all(done) or self._scoring[method] > 1


def _missing(taken: EvidenceTaken) -> dict[str, object]:
    """The reasons in the evidence, which a runner of the user's may have written as anything."""
    missing = taken.evidence.get("missing")
    return missing if isinstance(missing, dict) else {}
