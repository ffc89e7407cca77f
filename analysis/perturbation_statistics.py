"""Rules that compare a tool response with others: of the same tool, or of the same run.

A run is looked at whole. What a tool usually returns is counted part by part of the runs and added
up (lengths as a histogram, sets of JSON keys by their number), so that a store of any size is judged
by all of its responses in the memory of one part, and by the same numbers as in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from analysis.perturbation_rules import KEYS, hits
from loaders import Trajectories

MIN_JSON_RESPONSES: Final = 20
OVERSIZED_CHARS: Final = 40_000
_LONG: Final = 4_000
_MIN_RESPONSES: Final = 100
_BETWEEN = "\x1f"  # stands in no JSON text, where control characters are escaped


def within_runs(table: pl.DataFrame) -> pl.DataFrame:
    """The same call answered again: stale where the agent wrote in between, else a contradiction."""
    same = ["run", "tool", "arguments"]
    again = table.filter("is_read", pl.col("arguments").is_not_null()).filter(
        pl.struct(same).hash().is_duplicated()
    )
    before = pl.when(~pl.col("broken").shift(1).over(same)).then(pl.col("text").shift(1).over(same))
    seen = before.is_not_null() & ~pl.col("broken")
    unwritten = pl.col("writes") == pl.col("writes").shift(1).over(same)
    return pl.concat(
        [
            hits(
                again,
                seen & (before == pl.col("text")) & ~unwritten & (pl.col("chars") > 2),
                "stale",
                "statistic",
                "same call, same response, although the agent wrote in between",
            ),
            hits(
                again,
                seen & (before != pl.col("text")) & unwritten,
                "contradiction",
                "statistic",
                "same call, other response, although the agent wrote nothing in between",
            ),
        ]
    )


class Tools:
    """What the tools return, counted over parts of the runs, and the responses that may be unlike it.

    ``look``: the features of a part's responses, with ``broken``: those with a code of their own.
    """

    def __init__(self, look: Callable[[Trajectories], pl.DataFrame]) -> None:
        self._look = look
        self._parts: list[Trajectories] = []
        self._lengths: list[pl.DataFrame] = []
        self._sets: list[pl.DataFrame] = []
        self._not_json: list[pl.DataFrame] = []
        self._long: list[pl.DataFrame] = []
        self._keyed: list[pl.DataFrame] = []

    def add(self, part: Trajectories, table: pl.DataFrame) -> None:
        """Count the responses of one more part of the runs."""
        row = [*KEYS, "injected"]
        self._lengths.append(
            table.group_by("tool", "chars").agg(
                pl.len().cast(pl.Int64).alias("n"), pl.col("json").sum().cast(pl.Int64)
            )
        )
        not_json = pl.col("json_like") & ~pl.col("json") & ~pl.col("broken")
        self._not_json.append(table.filter(not_json).select(row))
        self._long.append(table.filter(pl.col("chars") > _LONG).select(*row, "chars"))
        keyed = _with_key_sets(table)
        sets = keyed.group_by("tool", "keys").agg(pl.len().cast(pl.Int64).alias("n"))
        most = pl.col("n") == pl.col("n").max().over("tool")
        sets = sets.with_columns(
            (most & (pl.col("n") * 2 > pl.col("n").sum().over("tool"))).alias("is_usual"),
            pl.lit(len(self._parts)).alias("part"),
        )
        # The rows of a part's usual set are many and nearly never unlike the tool's: not kept.
        unusual = sets.filter(~pl.col("is_usual")).select("tool", "keys")
        self._keyed.append(keyed.join(unusual, on=["tool", "keys"], nulls_equal=True))
        self._sets.append(sets)
        self._parts.append(part)

    def unlike(self) -> pl.DataFrame:
        """Responses unlike what their tool usually returns: malformed, schema_drift, oversized."""
        counts = pl.concat(self._lengths).group_by("tool", "chars").sum().sort("tool", "chars")
        n = pl.col("n")
        # The 99th percentile as Polars takes it by default: the nearest of the sorted values.
        place = ((n.sum() - 1) * 0.99 + 0.5).floor()
        tools = counts.group_by("tool").agg(
            n.sum().alias("of"),
            (pl.col("json").sum() / n.sum()).alias("json_share"),
            pl.col("chars").filter(n.cum_sum() > place).first().alias("p99"),
        )
        usually_json = (pl.col("json_share") >= 0.95) & (pl.col("of") >= MIN_JSON_RESPONSES)
        is_long = (pl.col("chars") > OVERSIZED_CHARS) | (
            (pl.col("of") >= _MIN_RESPONSES) & (pl.col("chars") > 4 * pl.col("p99"))
        )
        every = pl.lit(value=True)

        def beside_tool(responses: list[pl.DataFrame]) -> pl.DataFrame:
            return pl.concat(responses).join(tools, on="tool", how="left", nulls_equal=True)

        return pl.concat(
            [
                hits(
                    beside_tool(self._not_json),
                    usually_json,
                    "malformed",
                    "statistic",
                    "looks like JSON and does not parse, for a tool that nearly always returns JSON",
                ),
                hits(
                    self._drifted(),
                    every,
                    "schema_drift",
                    "statistic",
                    "keys unlike the tool's usual ones (Jaccard under 0.6)",
                ),
                hits(
                    beside_tool(self._long),
                    is_long,
                    "oversized",
                    "statistic",
                    "over 40,000 characters, or 4 times the tool's P99",
                ),
            ]
        )

    def _drifted(self) -> pl.DataFrame:
        every = pl.concat(self._sets)
        unlike = _unlike_the_usual(every)
        rows = pl.concat(self._keyed).join(unlike, on=["tool", "keys"], how="semi")
        hidden = every.filter("is_usual").join(unlike, on=["tool", "keys"], how="semi")
        for (number,), sets in hidden.group_by("part"):
            again = _with_key_sets(self._look(self._parts[int(number)]))
            rows = pl.concat([rows, again.join(sets, on=["tool", "keys"], how="semi")])
        return rows


def _with_key_sets(table: pl.DataFrame) -> pl.DataFrame:
    """Unbroken JSON responses that have keys, with the sorted set of them as one text."""
    keys = pl.col("text").str.extract_all(r'"[^"\\]{1,64}"\s*:').list.unique().list.sort()
    return (
        table.filter(pl.col("json"), ~pl.col("broken"))
        .select(*KEYS, "injected", keys.list.join(_BETWEEN).alias("keys"))
        .filter(pl.col("keys") != "")
    )


def _unlike_the_usual(sets: pl.DataFrame) -> pl.DataFrame:
    """Sets of keys that are unlike those which most responses of the tool have: ``tool``, ``keys``."""
    n = pl.col("n")
    counted = sets.group_by("tool", "keys").agg(n.sum())
    usual = counted.filter(
        n / n.sum().over("tool") >= 0.6, n.sum().over("tool") >= MIN_JSON_RESPONSES
    ).select("tool", pl.col("keys").str.split(_BETWEEN).alias("usual"))
    own = pl.col("keys").str.split(_BETWEEN)
    shared = own.list.set_intersection("usual").list.len()
    either = own.list.set_union("usual").list.len()
    return counted.join(usual, on="tool").filter(shared / either < 0.6).select("tool", "keys")
