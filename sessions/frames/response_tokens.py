"""A session's tokens, some responses at a time: together they may not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from sessions.frames.metrics import REQUEST_KEY, RUN_KEY, per_request

MOST_TOKENS: Final = 1 << 22  # in memory at once, unless one response alone has more


class ResponseTokens:
    """The rows of a tokens frame, and what `per_request` counts of them."""

    def __init__(self, rows: pl.LazyFrame, counted: pl.DataFrame) -> None:
        self._rows, self.counted = rows, counted

    @classmethod
    def of(cls, frame: pl.DataFrame) -> ResponseTokens:
        """Those of a frame in memory."""
        return cls(frame.lazy(), per_request(frame))

    def whole_responses(self, columns: tuple[str, ...], only: pl.DataFrame | None = None) -> Iterator[pl.DataFrame]:
        """REQUEST_KEY and those columns of all tokens, or those of the responses in `only` (REQUEST_KEY): frames of
        whole responses, each in the order in which its tokens came."""
        counted = self.counted if only is None else self.counted.join(only, on=REQUEST_KEY, how="semi")
        wanted = self._rows.select(*REQUEST_KEY, *columns)
        if self.counted["output_tokens"].sum() <= MOST_TOKENS:
            yield (wanted if only is None else wanted.join(only.lazy(), on=REQUEST_KEY, how="semi")).collect()
            return
        for key, own in counted.partition_by(RUN_KEY, as_dict=True, maintain_order=True).items():
            of_run = pl.all_horizontal(pl.col(name) == value for name, value in zip(RUN_KEY, key, strict=True))
            numbers = own.group_by("request").agg(pl.col("output_tokens").sum()).sort("request")
            pieces = numbers.group_by(pl.col("output_tokens").cum_sum() // MOST_TOKENS, maintain_order=True)
            for first, last in pieces.agg(
                pl.col("request").first().alias("first"), pl.col("request").last().alias("last")
            ).select("first", "last").iter_rows():  # fmt: skip
                piece = wanted.filter(of_run & pl.col("request").is_between(first, last))
                yield (piece if only is None else piece.join(only.lazy(), on=REQUEST_KEY, how="semi")).collect()
