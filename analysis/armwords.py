"""What two arms differ in, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import polars as pl

from analysis.agreement import AXES, SAME_CALLS, WHOLE, Arms
from analysis.wording import shown
from loaders import Trajectories

_LISTED: Final = 6


def headline(arms: Arms, runs: Trajectories, frame: pl.DataFrame) -> str:
    """What was meant, what confounds, what agrees, and what the logs do not tell."""
    confounds = _confounds(arms, frame)
    said = [_history_sentence(arms, runs)]
    if confounds:
        said.append(f"These arms also differ in {'; '.join(confounds)}.")
    agreed, lacking = _agreed(frame)
    if agreed:
        said.append(f"They agree on {', '.join(agreed)}.")
    is_compared = pl.col("axis").is_in(AXES[:4]) | (pl.col("item") == SAME_CALLS)
    varying = frame.filter(is_compared, pl.col("verdict") == "vary")
    if varying.height:
        names = (
            f"{row['axis'].replace('_', ' ')} ({shown(row['item'])})"
            for row in varying.iter_rows(named=True)
        )
        said.append(f"No more different between the arms than within them: {listed(names)}.")
    if lacking:
        said.append(f"Unknown: {', '.join(lacking)}.")
    if not confounds:
        said.append(f"No confound is found{' in what the logs tell' if lacking else ''}.")
    if broken := [
        f"{row['item']} ({row['value_a']} against {row['value_b']})"
        for row in frame.filter(axis="tool_responses", verdict="differ").iter_rows(named=True)
        if row["item"] != SAME_CALLS
    ]:
        said.append(
            f"Shares of responses differ, which the agents' own calls may bring about: {'; '.join(broken)}."
        )
    return " ".join(said)


def _agreed(frame: pl.DataFrame) -> tuple[list[str], list[str]]:
    """What both arms have alike, and what the logs do not tell, in words."""
    agreed: list[str] = []
    lacking: list[str] = []
    for axis in AXES[:4]:
        rows = frame.filter(pl.col("axis") == axis)
        first, same = rows["verdict"][0], rows.filter(verdict="same")["item"].to_list()
        name = axis.replace("_", " ")
        if first == "unknown":
            lacking.append(f"the rest of the {name}" if same else name)
        if len(same) == rows.height:
            agreed.append(name)
        elif parts := [shown(item) for item in same if item != WHOLE[axis]]:
            agreed.append(listed(parts))
    calls = frame.filter(item=SAME_CALLS)
    if calls.height and calls["verdict"][0] == "same":
        agreed.append(f"responses to the same calls ({calls['units'][0]:,} compared)")
    return agreed, lacking


def _confounds(arms: Arms, frame: pl.DataFrame) -> list[str]:
    differing = frame.filter(pl.col("verdict") == "differ")
    said = _tool_sentences(differing.filter(axis="toolset"))
    for axis, name in (("system_prompt", "the system prompt"), ("user_prompt", "the user prompts")):
        for row in differing.filter(axis=axis).iter_rows(named=True):
            where = f" in {row['units_differ']} of {row['units']} tasks" if arms.is_paired else ""
            said.append(f"{name}{where} ({row['detail']})")
    facts = differing.filter(axis="environment")
    named = facts.filter(pl.col("item") != WHOLE["environment"])
    said += [
        f"{shown(row['item'])} ({row['value_a']} against {row['value_b']})"
        for row in named.head(_LISTED).iter_rows(named=True)
    ]
    if named.height > _LISTED:
        said.append(f"{named.height - _LISTED} more facts of the environment")
    if facts.height > named.height:
        said.append(
            "the environment's fingerprint (working folder, sandbox, platform: see the runs)"
        )
    said += [
        f"responses to the same calls ({100 * row['between']:.0f} % of pairs of runs that had asked the same "
        f"are answered otherwise{_within_text(row)})"
        for row in differing.filter(item=SAME_CALLS).iter_rows(named=True)
    ]
    return said


def _within_text(row: dict[str, Any]) -> str:
    shares = [row[name] for name in ("within_a", "within_b") if row[name] is not None]
    if not shares:
        return ""
    return f", {' and '.join(f'{100 * share:.0f} %' for share in shares)} within an arm"


def _tool_sentences(rows: pl.DataFrame) -> list[str]:
    def names(condition: pl.Expr) -> list[str]:
        return [shown(name) for name in rows.filter(condition)["item"]]

    detail = pl.col("detail")
    said: list[str] = []
    for label, condition in (
        ("tool added", detail == "added"),
        ("tool removed", detail == "removed"),
        ("tool description", detail.str.starts_with("description")),
        ("tool's parameters", detail.str.contains("parameters: ", literal=True)),
    ):
        if found := names(condition):
            said.append(f"{_counted(len(found), label)}: {listed(found)}")
    if not said and rows.height:
        said.append("the tools on offer")
    return said


def _counted(count: int, noun: str) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    number = words[count] if count < len(words) else str(count)
    if count == 1:
        return f"{number} {noun}"
    plurals = {"tool added": "tools added", "tool removed": "tools removed"}
    plurals["tool's parameters"] = "tools' parameters"
    return f"{number} {plurals.get(noun, noun + 's')}"


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more."""
    every = list(names)
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more


def _history_sentence(arms: Arms, runs: Trajectories) -> str:
    available, sent = pl.col("thinking_available"), pl.col("thinking_sent")
    is_due, is_known = available > 0, (available > 0) & sent.is_not_null()
    table = (
        runs.steps.join(arms.table.lazy().select("run", "side"), on="run")
        .group_by("side")
        .agg(
            available.is_not_null().any().alias("logged"),
            is_due.sum().alias("due"),
            is_known.sum().alias("known"),
            (is_known & (sent >= available)).sum().alias("whole"),
            (is_known & (sent == 0)).sum().alias("none"),
        )
        .collect()
    )
    found = {row["side"]: row for row in table.iter_rows(named=True)}
    said = [f"{shown(side)} {_sent_text(found.get(side))}" for side in (arms.a, arms.b)]
    return f"Earlier thinking: {'; '.join(said)}."


def _sent_text(row: dict[str, Any] | None) -> str:
    if row is None or not row["logged"]:
        return "unknown"
    if not row["due"]:
        return "had none to send back"
    if not row["known"]:
        return f"unknown at the {row['due']:,} calls that had some"
    unknown = f", {row['due'] - row['known']:,} unknown" if row["due"] > row["known"] else ""
    whole, none, known = row["whole"], row["none"], row["known"]
    if known in (whole, none):
        return f"sent {'all' if whole else 'none'} back at {known:,} calls{unknown}"
    return f"sent all back at {whole:,}, some at {known - whole - none:,}, none at {none:,} calls{unknown}"


def warnings_of(arms: Arms, frame: pl.DataFrame) -> list[str]:
    """What a reader must know before calling two arms alike."""
    warnings: list[str] = []
    if not arms.is_paired:
        warnings.append(
            "The arms share no task: all runs of one are compared with all of the other, so that prompts, "
            "environment and responses may differ because the tasks do."
        )
    elif arms.left_out:
        warnings.append(f"{arms.left_out:,} runs of tasks that only one arm has are left out.")
    unknown = frame.filter(pl.col("verdict") == "unknown", pl.col("between").is_null())
    for axis in AXES[:4]:
        items = unknown.filter(pl.col("axis") == axis)["item"].to_list()
        if items:
            warnings.append(
                f"{axis}: unknown in at least one arm ({listed(shown(item) for item in items)}), so a difference "
                "can't be ruled out."
            )
    if frame.filter(pl.col("verdict") == "differ", pl.col("within_a").is_null(), pl.col("within_b").is_null(), pl.col("between") < 1).height:  # fmt: skip
        warnings.append(
            "No task has two runs of one arm, so what differs in some tasks may vary by itself."
        )
    return warnings
