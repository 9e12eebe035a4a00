"""What a result column is: its heading, kind, its place on each face, and where it comes from. Rows declare theirs.

A row's field says all of it in its metadata, by `shown` or `kept`; the CSV and the JSON have every field in the order
of declaration, so that new ones come last. A kind is a format and a unit; tui/words/result_text.py has its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import Any, ClassVar, Final, Literal, Protocol

Face = Literal["table", "report", "screen"]  # the terminal table, the report's table, the Compare screen
Kind = Literal[
    "rate", "half_width", "ratio", "range", "duration", "bytes", "share", "bound", "percent", "energy", "power",
    "count", "position", "flag", "text", "sentence", "sentences", "reasons", "nats", "nats_range", "fine_ratio",
    "fine_share", "per_step", "per_second", "number",
]  # fmt: skip
By = Literal["mean", "median", "sd", "most", "least", "last", "p90", "p99", "block_mean", "block_low", "block_high"]
Tone = Literal["", "strong", "accent", "warning", "bad", "dim"]
EVERYWHERE: Final[frozenset[Face]] = frozenset({"table", "report", "screen"})
SENTENCES: Final = ("sentence", "sentences")
UNITS: Final[Mapping[Kind, str]] = {
    "rate": "tokens/s", "half_width": "tokens/s", "duration": "s", "bytes": "bytes", "share": "share", "bound": "share",
    "percent": "%", "energy": "J/token", "power": "W", "nats": "nats/token", "nats_range": "nats/token",
    "fine_share": "share", "per_step": "tokens/step", "per_second": "1/s",
}  # fmt: skip
NONE: Final = "none"  # known not to be there, where None is not known
DECLARED: Final = "result column"


@dataclass(frozen=True, slots=True)
class Stored:
    """A figure over a saved column: of `runs` over a method's blocks, of `requests` over those that count.

    `block_…` are over the blocks that count: their mean, and the ends of its 95 % t interval.
    """

    frame: Literal["runs", "requests"]
    column: str
    by: By


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column. `key` names the row's attribute; without a heading it is only in the data.

    `on` are the faces that show it, where it is `optional` only if some row has it. It stands after the column of the
    key `after`, else where it was declared; `lead` puts it above the others on the Compare screen, which also says its
    `beside` in the same line, and colours it by `tone`. `stored` says which saved figure it is; else it is computed.
    """

    key: str
    heading: str
    kind: Kind
    on: frozenset[Face] = EVERYWHERE
    optional: bool = True
    after: str = ""
    lead: bool = False
    beside: str = ""
    tone: Tone = ""
    stored: Stored | None = None

    @property
    def unit(self) -> str:
        """The unit of its values in the data, an en dash where they have none."""
        return UNITS.get(self.kind, "–")

    def value(self, row: object) -> object:
        """What the row has, by kind: a number, pair of numbers, text, texts or None."""
        value: object = getattr(row, self.key)
        return value

    def is_told(self, row: object) -> bool:
        """Whether the row has something to show here, and not only that there is nothing."""
        return self.value(row) not in (None, "", (), NONE)


@dataclass(frozen=True, slots=True)
class ResultColumns:
    """The columns of one type of row: `data` as the CSV has them, `displayed` as the faces show them."""

    data: tuple[ResultColumn, ...]
    displayed: tuple[ResultColumn, ...]

    def of(self, key: str) -> ResultColumn:
        return next(column for column in (*self.data, *self.displayed) if column.key == key)

    def cells(self, face: Face, rows: Sequence[object]) -> list[ResultColumn]:
        """The columns of the face's table for these rows."""
        return [column for column in self._shown(face, rows) if column.kind not in SENTENCES]

    def sentences(self, face: Face, rows: Sequence[object]) -> list[ResultColumn]:
        """Those too long for a cell: sentences that the face says of a row."""
        return [column for column in self._shown(face, rows) if column.kind in SENTENCES]

    def lines(self, rows: Sequence[object]) -> list[ResultColumn]:
        """The lines of the Compare screen: the leading ones, the cells, the sentences."""
        shown = self._shown("screen", rows)
        said_beside = {column.beside for column in shown}
        ranked = [(0 if column.lead else 2 if column.kind in SENTENCES else 1, column) for column in shown]
        return [
            column for wanted in range(3) for rank, column in ranked if rank == wanted and column.key not in said_beside
        ]

    def stored(self, frame: Literal["runs", "requests"]) -> dict[str, Stored]:
        """By key, the figures that are read of a frame."""
        return {column.key: column.stored for column in self.data if column.stored and column.stored.frame == frame}

    def _shown(self, face: Face, rows: Sequence[object]) -> list[ResultColumn]:
        return [
            column
            for column in self.displayed
            if face in column.on and (not column.optional or any(column.is_told(row) for row in rows))
        ]


def shown(
    heading: str,
    kind: Kind,
    *,
    on: frozenset[Face] = EVERYWHERE,
    optional: bool = True,
    after: str = "",
    lead: bool = False,
    beside: str = "",
    tone: Tone = "",
    stored: Stored | None = None,
) -> dict[str, ResultColumn]:
    """The metadata of a field that the faces show."""
    return {DECLARED: ResultColumn("", heading, kind, on, optional, after, lead, beside, tone, stored)}


def kept(kind: Kind, *, stored: Stored | None = None) -> dict[str, ResultColumn]:
    """The metadata of a field that is only in the data."""
    return {DECLARED: ResultColumn("", "", kind, frozenset(), stored=stored)}


class DeclaredRow(Protocol):
    """A dataclass of rows: its fields are columns, and `DERIVED` has those that the faces make of them."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    DERIVED: ClassVar[tuple[ResultColumn, ...]]


def columns_of(row_type: type[DeclaredRow]) -> ResultColumns:
    """The columns that a type of rows declares. Raises ValueError where one stands after another that is not shown."""
    data = tuple(replace(field.metadata[DECLARED], key=field.name) for field in fields(row_type))
    declared = [column for column in (*data, *row_type.DERIVED) if column.on]
    displayed = tuple(_ordered(declared, ""))
    if lost := {column.key for column in declared} - {column.key for column in displayed}:
        raise ValueError(f"{', '.join(sorted(lost))}: declared after a column that no face shows")
    return ResultColumns(data, displayed)


def _ordered(columns: Sequence[ResultColumn], after: str) -> Iterator[ResultColumn]:
    """The columns that follow the one named, each with those that follow it."""
    for column in columns:
        if column.after == after:
            yield column
            yield from _ordered(columns, column.key)
