"""Rules that compare a tool response with others: of the same tool, or of the same run.

A run is looked at whole. What a tool usually returns is counted part by part of the runs and added
up (lengths as a histogram, sets of JSON keys by their number), so that a store of any size is judged
by all of its responses in the memory of one part, and by the same numbers as in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import polars as pl

from analysis import perturbation_messages as said
from analysis.parts import unshared
from analysis.perturbation_rules import KEYS, command_of, hits

MIN_JSON_RESPONSES: Final = 20
OVERSIZED_CHARS: Final = 40_000
_LONG: Final = 4_000
_MIN_RESPONSES: Final = 100
_VALUE: Final = r'"(?:[^"\\]|\\.){3,}"(?:\s*[,}\]]|$)'
"""A text of at least three characters in JSON arguments; a key is followed by a colon."""
_HOLDS: Final = r"^\s*(?:\[\s*)*[^\s\[\]{}]|:"
_BETWEEN = "\x1f"  # stands in no JSON text, where control characters are escaped


def with_shape(table: pl.DataFrame) -> pl.DataFrame:
    """Add what is compared with other responses, so that no text needs to be kept for it.

    ``told``: the text's hash, of 64 bits; ``keys``: of what is JSON and holds something, the sorted set of its
    keys as one text; ``like_json``: it is no JSON and looks like it, or like what is left of it;
    ``is_json_start``: of these, what begins as an object, of a tool that shows no files.
    """
    text, json = pl.col("text"), pl.col("json")
    places = pl.int_range(pl.len()).alias("place")
    # Filtered and not masked: an expression searches what is masked as well.
    plain = table.select(places, "text", "json", "json_like").filter(~json, ~pl.col("json_like"))
    left = plain.filter(text.str.contains(r'["}\]]')).filter(text.str.contains(said.JSON_REMAINS))
    tells = pl.col("family").is_in(["function", "web"]) | pl.col("family").is_null()
    starts = (
        table.select(places, "text", "json", "json_like", "family", "arguments")
        .filter(~json, pl.col("json_like"))
        .filter(tells, text.str.contains(said.JSON_START))
        .filter(~text.str.contains(said.MORE_THAN_JSON))
        .filter(~command_of().str.contains(said.SHOWS_FILES).fill_null(value=False))
    )
    in_order = pl.when(json).then(text).str.extract_all(r'"[^"\\]{1,64}"\s*:').list.join(_BETWEEN)
    table = table.with_columns(
        pl.when(text.is_not_null()).then(text.hash()).alias("told"),
        in_order.alias("in_order"),
        ((~json & pl.col("json_like")) | places.is_in(left["place"].implode())).alias("like_json"),
        places.is_in(starts["place"].implode()).alias("is_json_start"),
    )
    # Few orders of keys are many responses: each is split and sorted once.
    keys = pl.col("in_order").str.split(_BETWEEN).list.unique().list.sort().list.join(_BETWEEN)
    sets = table.select(pl.col("in_order").drop_nulls().unique()).with_columns(keys.alias("keys"))
    empty = pl.col("keys") == ""
    holds = ~empty | pl.when(empty).then(text).str.contains(_HOLDS)
    return (
        table.join(sets, on="in_order", how="left", maintain_order="left")
        .with_columns(pl.when(holds).then("keys").alias("keys"))
        .drop("in_order")
    )


def within_runs(table: pl.DataFrame) -> pl.DataFrame:
    """The same call answered again: stale where the agent wrote to it in between, else a contradiction.

    A write is to what a read looks at if it succeeded and both calls name the same value (an order's
    number, a path) in their arguments: a read that nothing changed gives the same text with good reason.
    """
    same = ["run", "tool", "arguments"]
    again = table.filter("is_read", pl.col("arguments").is_not_null()).filter(
        pl.struct(same).hash().is_duplicated()
    )
    sound = ~pl.col("broken").shift(1).over(same)
    again = again.with_columns(
        pl.when(sound).then(pl.col("told").shift(1).over(same)).alias("before"),
        pl.col("seq").shift(1).over(same).alias("since"),
        (pl.col("writes") == pl.col("writes").shift(1).over(same)).alias("unwritten"),
    ).filter(pl.col("before").is_not_null(), ~pl.col("broken"))
    is_equal = pl.col("before") == pl.col("told")
    equal = again.filter(is_equal, ~pl.col("unwritten"), pl.col("chars") > 2)
    return pl.concat(
        [
            hits(
                equal.join(_written_to(equal, table), on=["run", "seq"], how="semi"),
                pl.lit(value=True),
                "stale",
                "statistic",
                "same call, same response, although the agent wrote to it in between",
            ),
            hits(
                again,
                ~is_equal & pl.col("unwritten"),
                "contradiction",
                "statistic",
                "same call, other response, although the agent wrote nothing in between",
            ),
        ]
    )


def _written_to(reads: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Reads (``run``, ``seq``) before which, after ``since``, a successful call wrote to the same thing."""
    named = pl.col("arguments").str.extract_all(_VALUE).list.unique()
    writes = (
        table.filter(~pl.col("is_read"), ~pl.col("broken"))
        .join(reads.select("run").unique(), on="run", how="semi")
        .select("run", pl.col("seq").alias("written"), named.alias("named"))
    )
    return (
        reads.select("run", "seq", "since", named.alias("looked_at"))
        .explode("looked_at", empty_as_null=False)
        .join(
            writes.explode("named", empty_as_null=False),
            left_on=["run", "looked_at"],
            right_on=["run", "named"],
        )
        .filter(pl.col("written").is_between("since", "seq"))
        .select("run", "seq")
        .unique()
    )


Part = TypeVar("Part")


class Tools(Generic[Part]):
    """What the tools return, counted over parts of the runs, and the responses that may be unlike it.

    ``look``: the features of a part's responses (``with_shape``), with ``broken``: those with a code of
    their own.
    """

    def __init__(self, look: Callable[[Part], pl.DataFrame]) -> None:
        self._look = look
        self._parts: list[Part] = []
        self._lengths: list[pl.DataFrame] = []
        self._sets: list[pl.DataFrame] = []
        self._not_json: list[pl.DataFrame] = []
        self._long: list[pl.DataFrame] = []
        self._keyed: list[pl.DataFrame] = []

    def add(self, part: Part, table: pl.DataFrame) -> None:
        """Count the responses of one more part of the runs."""
        row = [*KEYS, "injected"]
        plain = ~pl.col("broken") & ~pl.col("json_like") & (pl.col("chars") > 0)
        self._lengths.append(
            table.group_by("tool", "chars").agg(
                pl.len().cast(pl.Int64).alias("n"),
                pl.col("json").sum().cast(pl.Int64),
                (~pl.col("json") & plain).sum().cast(pl.Int64).alias("plain"),
            )
        )
        not_json = table.filter("like_json", ~pl.col("broken"))
        self._not_json.append(unshared(not_json.select(*row, "is_json_start")))
        self._long.append(unshared(table.filter(pl.col("chars") > _LONG).select(*row, "chars")))
        keyed = _keyed(table)
        sets = keyed.group_by("tool", "keys").agg(pl.len().cast(pl.Int64).alias("n"))
        most = pl.col("n") == pl.col("n").max().over("tool")
        sets = sets.with_columns(
            (most & (pl.col("n") * 2 > pl.col("n").sum().over("tool"))).alias("is_usual"),
            pl.lit(len(self._parts)).alias("part"),
        )
        # The rows of a part's usual set are many and nearly never unlike the tool's: not kept.
        unusual = sets.filter(~pl.col("is_usual")).select("tool", "keys")
        self._keyed.append(unshared(keyed.join(unusual, on=["tool", "keys"], nulls_equal=True)))
        self._sets.append(unshared(sets))
        self._parts.append(part)

    def unlike(self) -> pl.DataFrame:
        """Responses unlike what their tool usually returns: malformed, schema_drift, oversized."""
        counts = pl.concat(self._lengths).group_by("tool", "chars").sum().sort("tool", "chars")
        n = pl.col("n")
        # The 99th percentile as Polars takes it by default: the nearest of the sorted values.
        place = ((n.sum() - 1) * 0.99 + 0.5).floor()
        tools = counts.group_by("tool").agg(
            n.sum().alias("of"),
            pl.col("json").sum(),
            (pl.col("json").sum() / (pl.col("json") + pl.col("plain")).sum()).alias("json_share"),
            pl.col("chars").filter(n.cum_sum() > place).first().alias("p99"),
        )
        usually_json = (pl.col("json_share") >= 0.9) & (pl.col("json") >= MIN_JSON_RESPONSES)
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
                    beside_tool(self._not_json),
                    pl.col("is_json_start") & ~usually_json.fill_null(value=False),
                    "malformed",
                    "pattern",
                    "begins as a JSON object and does not parse",
                ),
                hits(
                    self._drifted(),
                    every,
                    "schema_drift",
                    "statistic",
                    "keys unlike the tool's usual ones (Jaccard under 0.6, and not one key more)",
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
            again = _keyed(self._look(self._parts[int(number)]))
            rows = pl.concat([rows, again.join(sets, on=["tool", "keys"], how="semi")])
        return rows


def _keyed(table: pl.DataFrame) -> pl.DataFrame:
    """Unbroken JSON responses that hold something, with the sorted set of their keys."""
    return table.filter(pl.col("keys").is_not_null(), ~pl.col("broken")).select(
        *KEYS, "injected", "keys"
    )


def _unlike_the_usual(sets: pl.DataFrame) -> pl.DataFrame:
    """Sets of keys that are unlike those which most responses of the tool have: ``tool``, ``keys``.

    One key more is a notice and no drift; what holds no keys (a list of numbers) has drifted from nothing.
    """
    n = pl.col("n")
    counted = sets.group_by("tool", "keys").agg(n.sum())
    own = pl.when(pl.col("keys") == "").then([]).otherwise(pl.col("keys").str.split(_BETWEEN))
    usual = counted.filter(
        n / n.sum().over("tool") >= 0.6, n.sum().over("tool") >= MIN_JSON_RESPONSES
    ).select("tool", own.alias("usual"))
    shared = own.list.set_intersection("usual").list.len()
    either = own.list.set_union("usual").list.len()
    adds_one = (shared == pl.col("usual").list.len()) & (shared > 0) & (either == shared + 1)
    unlike = (shared / either < 0.6) & ~adds_one & (pl.col("keys") != "")
    return counted.join(usual, on="tool").filter(unlike).select("tool", "keys")
