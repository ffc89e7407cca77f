"""Thinking call by call: states, density, interleaving, and when it goes missing."""

from __future__ import annotations

import polars as pl
import pytest
from chats import Chat, chats
from small import runs_of
from test_thinking import run, together

from analysis import thinking
from loaders import DerailError


def test_states_tell_what_became_of_earlier_thinking() -> None:
    runs = together(
        run(0, [0, 1, 1, 0], "request", "mixed"), run(1, [None, None], "unknown", "blind")
    )
    table = thinking.states(runs)
    assert table["history"].to_list() == [
        "nothing to send", "kept", "partly dropped", "dropped", "nothing to send", "unknown",
    ]  # fmt: skip
    assert table["missing"].to_list()[:4] == [0, 0, 1, 3]
    assert table["thinks"].all()


def test_density_and_interleaving_are_those_planted() -> None:
    """Two arms that think before a third and before nine tenths of their calls."""
    arms = [Chat("all", thinks=1 / 3)] * 30 + [Chat("none", thinks=0.9)] * 30
    runs = chats(*arms)
    dense = thinking.density(runs).frame
    seen = dict(dense.filter(measure="thinking").select("arm", "value").iter_rows())
    assert seen == {"all": pytest.approx(1 / 3, abs=0.05), "none": pytest.approx(0.9, abs=0.05)}
    between = thinking.interleaving(runs).frame
    for arm, planted in (("all", 1 / 3), ("none", 0.9)):
        row = between.filter(arm=arm).row(0, named=True)
        assert row["low"] <= planted <= row["high"]
    share = runs.steps.collect().select(pl.col("reasoning_tokens") / pl.col("output_tokens"), "run")
    expected = share.group_by("run").agg(pl.col("reasoning_tokens").mean())["reasoning_tokens"]
    whole = thinking.density(runs, by=None).frame.filter(measure="density")["value"].item()
    assert whole == pytest.approx(expected.mean())


def test_hidden_thinking_has_no_density_and_is_no_zero() -> None:
    step = {"run": 0, "step": 0, "seq": 0, "thinking": "hidden"}
    runs = runs_of([{"run": 0, "arm": "x"}], [step], [])
    found = thinking.density(runs)
    rows = {row["measure"]: row for row in found.frame.iter_rows(named=True)}
    assert rows["density"]["value"] is None
    assert rows["density"]["refused"] == "the log of no run can tell"
    assert rows["thinking"]["value"] == 1.0
    assert any("unknown" in text for text in found.warnings)


def test_onset_is_where_planted_and_why() -> None:
    """Under turn_boundary the first user turn after a call that thought takes its thinking away."""
    runs = chats(*[Chat("turn_boundary", thinks=1, turn_every=4, requests_known=True)] * 12)
    found = thinking.onset(runs)
    assert found.frame.select(
        "due_call", "at_risk", "onsets", "after_user_turn", "kept"
    ).rows() == [(4, 12, 12, 12, 0.0)]
    assert "12 of 12 runs" in found.headline
    assert "call 4" in found.headline
    assert len(found.runs("drops")) == 12


def test_runs_that_keep_all_are_censored_and_unknown_requests_end_the_watch() -> None:
    runs = together(
        run(0, [0, 1, 2, 2], "request", "x"),
        run(1, [0, 1, 2, 3], "request", "x"),
        run(2, [0, 1, None, 0], "request", "x"),
    )
    frame = thinking.onset(runs, tokens=False).frame
    rows = frame.select("due_call", "at_risk", "onsets", "censored", "kept").rows()
    assert rows == [(1, 3, 0, 1, 1.0), (3, 2, 1, 1, 0.5)]
    assert frame["otherwise"].to_list() == [0, 1]


def test_without_requests_there_is_no_onset_to_see() -> None:
    with pytest.raises(DerailError, match="attach_wire"):
        thinking.onset(together(run(0, [None, None], "unknown", "x")))
