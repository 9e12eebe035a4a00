"""What can be asked of a session that has ended: more rounds, by options of a run.

Standard library only, as the command line is parsed from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessions.disk.option_table import Option, OptionError, Value, table
from sessions.disk.options import MOST_BLOCKS, UNTIL_AT_MOST_S, UNTIL_BLOCKS, RunOptions

if TYPE_CHECKING:
    from sessions.disk.plan import Goal

MORE: Final = "+"  # before a number of blocks: so many more


@dataclass(frozen=True, slots=True)
class Extension:
    """`blocks` of each method in all, with `more` so many beyond those that it has; the rest as in a plan's goal.

    `fidelity` alone is one more block of each, with the scores of its fidelity.
    """

    blocks: int | None = None
    more: bool = False
    until: float | None = None
    at_most: float | None = None
    fidelity: bool = False

    @classmethod
    def of(cls, said: Mapping[str, Value | None]) -> Extension | None:
        """From what was said of `options()`, None where nothing was. Raises OptionError with a sentence."""
        rows = {row.name: row for row in table(RunOptions)}
        text, until, at_most = said["blocks"], said["until"], said["at_most"]
        fidelity = bool(said.get("fidelity"))
        if text is None and until is None and at_most is None and not fidelity:
            return None
        try:
            blocks = None if text is None else rows["blocks"].read(str(text))
        except ValueError as error:
            raise OptionError(f"--blocks: {error}; +10 is ten more.") from None
        for name, value in (("blocks", blocks), ("until", until), ("at_most", at_most)):
            rows[name].check(value)
        if until is None and at_most is not None:
            raise OptionError("--at-most goes with --until: say how precise the ratios are to be, as in --until 5%.")
        return cls(
            blocks=None if blocks is None else int(blocks),
            more=str(text).strip().startswith(MORE),
            until=None if until is None else float(until),
            at_most=None if at_most is None else float(at_most),
            fidelity=fidelity,
        )

    @property
    def is_fidelity_alone(self) -> bool:
        """Whether no more rounds are asked for than fidelity takes."""
        return self.fidelity and self.blocks is None and self.until is None

    def goal(self, since: int) -> Goal:
        """The goal of a session that has so many rounds. Raises OptionError with a sentence."""
        least = f"it has {since} block{'s' if since != 1 else ''} a method already"
        if self.is_fidelity_alone:
            blocks = since + 1
        elif self.blocks is None:
            blocks = min(since + UNTIL_BLOCKS, MOST_BLOCKS)
        else:
            blocks = since + self.blocks if self.more else self.blocks
        if blocks <= since:
            raise OptionError(f"--blocks {blocks} asks for nothing new: {least}; --blocks +10 asks for ten more.")
        if blocks > MOST_BLOCKS:
            raise OptionError(f"{blocks:,} blocks are too many: {least}, and {MOST_BLOCKS:,} are the most.")
        from sessions.disk.plan import Goal

        at_most = UNTIL_AT_MOST_S if self.until is not None and self.at_most is None else self.at_most
        return Goal(blocks=blocks, until=self.until, at_most=at_most, since=since, fidelity=self.fidelity)


def options() -> tuple[Option, ...]:
    """The options of a run that can be said of a session that has ended, in the words they have there."""
    rows = {row.name: row for row in table(RunOptions)}
    words = f"{MORE}N: so many more blocks of each method; N: so many in all, or with --until at most"
    return (
        dataclasses.replace(rows["blocks"], kind=str, metavar=f"{MORE}N|N", help=words),
        rows["until"],
        rows["at_most"],
        dataclasses.replace(rows["fidelity"], negative="", help="in one more block of each method, score its fidelity"),
    )
