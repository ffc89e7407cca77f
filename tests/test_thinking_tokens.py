"""Token accounting: right or unknown, on runs with planted policies, sample logs and public logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from chats import Chat, chats
from conftest import ROOT

import loaders
from analysis import thinking
from analysis.token_models import POLICIES

PLANTED = ("all", "none", "last", "turn_boundary")
MANY = 60


@pytest.mark.parametrize("policy", PLANTED)
@pytest.mark.parametrize("tells_reasoning", [True, False])
def test_a_planted_policy_is_found_and_never_another(policy: str, tells_reasoning: bool) -> None:
    chat = Chat(policy, tells_reasoning=tells_reasoning)
    found = thinking.token_account(chats(*[chat] * MANY))
    told = found.filter(pl.col("policy") != "unknown")
    assert set(told["policy"]) == {policy}
    assert told.height >= 0.9 * MANY
    if policy in ("all", "none"):
        expected = 0.0 if policy == "all" else 1.0
        assert told["phi"].median() == pytest.approx(expected, abs=0.03)
        covered = told.select(pl.lit(expected).is_between("phi_low", "phi_high").mean()).item()
        assert covered >= 0.8  # given the calibration, whose own error is not in the interval


def test_bytes_per_token_are_calibrated_by_kind_on_the_run() -> None:
    odd = Chat(
        "none", bytes_per_token=(2.5, 5.5, 3.0), visible=150, calls=40, tells_reasoning=False
    )
    found = thinking.token_account(chats(*[odd] * 20))
    assert found["bytes_per_token_responses"].median() == pytest.approx(5.5, rel=0.1)
    assert found["bytes_per_token_said"].median() == pytest.approx(2.5, rel=0.15)
    assert set(found["policy"]) == {"none"}


def test_little_thinking_between_large_responses_is_unknown_and_not_guessed() -> None:
    hard = [
        Chat(policy, thinking=3, response=4_000, calls=6) for policy in PLANTED for _ in range(40)
    ]
    found = thinking.token_account(chats(*hard))
    assert (found["policy"] == "unknown").mean() > 0.9
    truth = [chat.policy for chat in hard]
    wrong = found.with_columns(pl.Series("truth", truth)).filter(
        pl.col("policy").is_in(POLICIES), pl.col("policy") != pl.col("truth")
    )
    assert wrong.height <= 2  # of 160
    assert found.filter(policy="unknown")["why_unknown"].null_count() == 0


def test_a_share_that_is_no_policy_is_unknown() -> None:
    runs = chats(*[Chat("all", calls=30, turn_every=99)] * 20)
    steps = runs.steps.collect()
    thought = pl.col("reasoning_tokens").cum_sum().shift(1).over("run").fill_null(0)
    halved = steps.with_columns(
        (pl.col("input_tokens") - (thought / 2).cast(pl.Int64)).alias("input_tokens")
    )
    tables = {
        n: getattr(runs, n).collect() for n in ("trajectories", "events", "tools", "problems")
    }
    found = thinking.token_account(loaders.Trajectories.from_frames({**tables, "steps": halved}))
    assert found.filter(pl.col("policy").is_in(["all", "none"])).is_empty()
    assert found["phi"].median() == pytest.approx(0.5, abs=0.1)


def test_a_compaction_is_counted_and_takes_nothing_with_it() -> None:
    chat = Chat("all", calls=20, compacts_at=12, turn_every=99)
    runs = chats(*[chat] * 10)
    found = thinking.token_account(runs)
    assert found["compactions"].to_list() == [1] * 10
    assert set(found["policy"]) == {"all"}
    told = thinking.with_token_evidence(runs).steps.collect()
    assert set(told.filter(pl.col("step") < 12, pl.col("thinking_available") > 0)["evidence"]) == {
        "tokens"
    }
    assert set(told.filter(pl.col("step") >= 12)["evidence"]) == {"unknown"}
    silent = runs.events.filter(pl.col("kind") != "compaction").collect()
    tables = {n: getattr(runs, n).collect() for n in ("trajectories", "steps", "tools", "problems")}
    unlogged = thinking.token_account(
        loaders.Trajectories.from_frames({**tables, "events": silent})
    )
    assert unlogged["compactions"].to_list() == [1] * 10  # seen in the counts alone


def test_calls_are_told_as_the_policy_would_send() -> None:
    """What tokens tell of each call equals what the request holds, where both can be known."""
    chat = [Chat(policy) for policy in PLANTED for _ in range(10)]
    blind = chats(*chat)
    seen = chats(*(replace(one, requests_known=True) for one in chat)).steps.collect()
    told = thinking.with_token_evidence(blind).steps.collect()
    both = told.join(
        seen.select("run", "step", truth="thinking_sent", edit="history_edit"), on=["run", "step"]
    ).filter(pl.col("evidence") == "tokens")
    assert both.height > 300
    assert (both["thinking_sent"] == both["truth"]).all()
    dropped = both.filter(pl.col("truth") < pl.col("thinking_available"))
    assert set(dropped["history_edit"]) == {"thinking_dropped"}


def test_tokens_never_override_a_request() -> None:
    runs = chats(*[Chat("none", requests_known=True)] * 5)
    steps = runs.steps.collect().with_columns(thinking_sent=pl.col("thinking_available"))
    tables = {
        n: getattr(runs, n).collect() for n in ("trajectories", "events", "tools", "problems")
    }
    claims = loaders.Trajectories.from_frames({**tables, "steps": steps})
    assert set(thinking.token_account(claims)["policy"]) == {"none"}
    row = thinking.continuity(claims, by="arm").frame.row(0, named=True)
    assert (row["verdict"], row["evidence"]) == ("kept", ["request"])
    checked = thinking.token_accounting(claims, by="arm")
    assert checked.frame.select("checked", "agree").row(0) == (5, 0)  # and the disagreement shows


def test_continuity_takes_tokens_where_nothing_better_is_known() -> None:
    runs = chats(*[Chat("none")] * 4, *[Chat("all")] * 4)
    found = thinking.continuity(runs, by="arm")
    rows = {row["arm"]: row for row in found.frame.iter_rows(named=True)}
    assert (rows["none"]["verdict"], rows["none"]["evidence"]) == ("dropped", ["tokens"])
    assert (rows["all"]["verdict"], rows["all"]["calls_unknown"]) == ("kept", 0)
    assert any("token counts alone" in text for text in found.warnings)
    blind = thinking.continuity(runs, by="arm", tokens=False).frame
    assert set(blind["verdict"]) == {"unknown"}


def test_sample_logs_are_told_right_or_not_at_all() -> None:
    """The model server's usage adds up, and what it was sent is recorded."""
    parts: list[pl.DataFrame] = []
    for folder in sorted((ROOT / "sample_logs" / "frameworks").iterdir()):
        recordings = sorted(folder.rglob("*.har"))
        runs = loaders.load(folder, progress=False).filter(pl.col("format") != "har")
        for recording in recordings:
            runs = loaders.attach_wire(runs, recording)
        truth = thinking.policy(runs).select("trajectory_id", truth="fits", due="calls_due")
        parts.append(thinking.token_account(runs).join(truth, on="trajectory_id"))
    checked = pl.concat(parts).filter(pl.col("due") > 0)
    told = checked.filter(pl.col("policy").is_in(POLICIES))
    wrong = told.filter(pl.col("truth").list.set_intersection("fits").list.len() == 0)
    assert wrong.is_empty(), wrong
    assert told.height >= 25
    assert told.height >= 0.6 * checked.height


def test_one_build_of_a_server_restores_reasoning_and_the_other_does_not(real_logs: Path) -> None:
    """BFCL logs no thinking at all; the two builds differ in whether it reaches the prompt."""
    runs = loaders.load(real_logs / "bfcl" / "results" / "{arm}" / "result")
    found = thinking.token_accounting(runs, by="arm").frame.sort("arm")
    fixes, main = found.iter_rows(named=True)
    assert (main["all"], main["turn_boundary"], main["last"]) == (0, 0, 0)
    assert main["none"] >= 170
    assert main["phi"] == pytest.approx(1.0, abs=0.02)
    assert fixes["none"] == 0
    assert fixes["all"] + fixes["turn_boundary"] >= 60


def test_gemini_cli_counts_no_earlier_thoughts_as_prompt(real_logs: Path) -> None:
    found = thinking.token_account(loaders.load(real_logs / "gemini_cli"))
    long = found.filter(pl.col("reasoning_tokens") > 1_000).row(0, named=True)
    assert long["policy"] == "none"
    assert long["phi"] == pytest.approx(1.0, abs=0.01)


def test_mini_swe_agent_sends_reasoning_back(real_logs: Path) -> None:
    """As measured on the wire with a marker in every thinking text."""
    found = thinking.token_account(loaders.load(real_logs / "mini_swe_agent"))
    assert set(found.filter(pl.col("reasoning_tokens") > 1_000)["policy"]) == {"all"}


def test_a_scanned_store_tells_the_same(tmp_path: Path) -> None:
    runs = chats(*[Chat(policy) for policy in PLANTED for _ in range(3)])
    stored = loaders.scan(runs.save(tmp_path / "store"))
    assert thinking.token_account(stored).equals(thinking.token_account(runs))
    told = thinking.with_token_evidence(stored)
    assert told.steps.collect().equals(thinking.with_token_evidence(runs).steps.collect())
    assert told.stored_at == stored.stored_at


def test_a_store_is_told_by_tokens_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same calls, whether all runs are looked at together or a few at a time, and still in parts."""
    logs = loaders.load("sample_logs/frameworks/mini_swe_agent/**/*.json")
    blind = logs.with_steps(
        logs.steps.with_columns(thinking_sent=pl.lit(None, pl.Int64), evidence=None)
    )
    stored = loaders.scan(blind.save(tmp_path / "store"))
    whole = thinking.with_token_evidence(stored).steps.collect()
    assert (whole["evidence"] == "tokens").sum() > 10
    monkeypatch.setattr("loaders.trajectories.PART_EVENTS", 50)
    told = thinking.with_token_evidence(stored)
    assert told.steps.collect().equals(whole)
    parts = list(told.parts())
    assert len(parts) > 3
    assert pl.concat(part.steps.collect() for part in parts).equals(whole)
    assert told.raw(told.ids[0], 0) == logs.raw(told.ids[0], 0)
