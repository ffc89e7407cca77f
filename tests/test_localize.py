"""Finding the decisive error: on Who&When beside its known figures, and on runs with a planted error."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generator import STUDY_PARTS
from simulate import Planted, simulate
from small import Rows, runs_of

import loaders
from analysis import annotated_turns, localize, perturbations
from analysis.results import Result
from loaders import Trajectories
from loaders.errors import DerailError

ROOT = Path(__file__).parent.parent
AUTOMATIC, HAND = "Algorithm-Generated", "Hand-Crafted"


@pytest.fixture(scope="module")
def whowhen(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / "whowhen" / "Who&When")


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> dict[str, list[dict[str, Any]]]:
    folder = real_logs / "whowhen" / "Who&When"
    halves = {half: sorted((folder / half).glob("*.json")) for half in (AUTOMATIC, HAND)}
    return {
        half: [json.loads(file.read_text()) for file in files] for half, files in halves.items()
    }


@pytest.fixture(scope="module")
def bench(whowhen: Trajectories) -> Result:
    return localize.benchmark(whowhen)


def row(found: Result, group: str, method: str, trained_on: str = "same set") -> dict[str, Any]:
    wanted = {"group": group, "method": method, "trained_on": trained_on}
    return found.frame.row(
        by_predicate=pl.all_horizontal(pl.col(name) == v for name, v in wanted.items()), named=True
    )


# ---------------------------------------------------------------------- Who&When


@pytest.mark.parametrize(
    ("half", "logs", "random", "last"), [(AUTOMATIC, 63, 12.19, 0.00), (HAND, 29, 3.28, 10.34)]
)
def test_guesses_that_learn_nothing_are_the_known_figures(
    bench: Result,
    raw: dict[str, list[dict[str, Any]]],
    half: str,
    logs: int,
    random: float,
    last: float,
) -> None:
    guess, final = (row(bench, half, m, "nothing") for m in ("random step", "last step"))
    assert (guess["runs"], final["runs"]) == (logs, logs)
    assert (round(100 * guess["exact"], 2), round(100 * final["exact"], 2)) == (random, last)
    lengths = [len(record["history"]) for record in raw[half]]
    steps = [int(record["mistake_step"]) for record in raw[half]]
    near = [sum(abs(k - t) <= 1 for k in range(n)) / n for t, n in zip(steps, lengths, strict=True)]
    harmonic = [sum(1 / k for k in range(1, n + 1)) / n for n in lengths]
    assert guess["within_1"] == pytest.approx(np.mean(near))
    assert guess["mrr"] == pytest.approx(np.mean(harmonic))
    assert guess["top_3"] == pytest.approx(np.mean([3 / n for n in lengths]))


def test_the_error_is_found_more_often_than_by_any_constant_guess(bench: Result) -> None:
    for half, least in ((AUTOMATIC, 0.41), (HAND, 0.20)):
        ours = row(bench, half, "auto")
        assert ours["exact"] >= least
        assert ours["low"] < ours["exact"] < ours["high"] <= 1
        assert ours["exact"] <= ours["top_3"] <= 1
        assert ours["exact"] <= ours["within_1"]
        assert ours["exact"] <= ours["mrr"]
        for constant in ("modal step", "first turn of the modal agent"):
            assert ours["exact"] > row(bench, half, constant)["exact"]
        assert f"{half}: exact step {100 * ours['exact']:.1f} %" in bench.headline
    assert bench.kind == "localization"
    assert any("biased" in warning for warning in bench.warnings)


def test_modal_guesses_from_the_other_half_are_those_counted_from_the_files(
    bench: Result, raw: dict[str, list[dict[str, Any]]]
) -> None:
    for half, other in ((AUTOMATIC, HAND), (HAND, AUTOMATIC)):
        tested = {record["question_ID"] for record in raw[half]}
        learnt = [record for record in raw[other] if record["question_ID"] not in tested]
        assert 10 <= len(learnt) < len(raw[other])
        counts = Counter(int(record["mistake_step"]) for record in learnt)
        # A run that is too short for the modal step falls back on the next, the earlier of equals.
        guesses = [
            max(range(len(record["history"])), key=lambda k: (counts[k], -k))
            for record in raw[half]
        ]
        steps = [int(record["mistake_step"]) for record in raw[half]]
        hits = [guess == step for guess, step in zip(guesses, steps, strict=True)]
        found = row(bench, half, "modal step", "other sets")
        assert found["exact"] == pytest.approx(np.mean(hits))


def test_modal_step_of_the_training_runs_stays_below_that_of_all_runs(bench: Result) -> None:
    for half, of_all in ((AUTOMATIC, 0.3016), (HAND, 0.2759)):
        assert 0.1 < row(bench, half, "modal step")["exact"] <= of_all + 1e-4


def test_turns_are_those_of_the_histories(whowhen: Trajectories) -> None:
    table = localize.features(whowhen)
    scores = (
        whowhen.trajectories.select("trajectory_id", "scores")
        .explode("scores")
        .unnest("scores")
        .collect()
        .pivot("name", index="trajectory_id", values="value")
    )
    counted = table.group_by("trajectory_id").agg(pl.len().alias("counted"))
    joined = counted.join(scores, on="trajectory_id")
    assert joined["counted"].cast(pl.Float64).to_list() == joined["turns"].to_list()
    annotated = table.join(
        scores, left_on=["trajectory_id", "turn"],
        right_on=["trajectory_id", pl.col("mistake_step").cast(pl.Int64)],
    )  # fmt: skip
    assert annotated.height == 92
    assert annotated["seq"].to_list() == annotated["mistake_seq"].cast(pl.Int64).to_list()


def test_rows_open_the_runs_that_they_got_right(bench: Result) -> None:
    for half in (AUTOMATIC, HAND):
        key = {"group": half, "method": "auto", "trained_on": "same set"}
        found = len(bench.runs(role="found", **key))
        assert found == round(row(bench, half, "auto")["exact"] * row(bench, half, "auto")["runs"])
        assert found + len(bench.runs(role="missed", **key)) == row(bench, half, "auto")["runs"]


def test_annotations_dealt_at_random_are_not_found(whowhen: Trajectories) -> None:
    """Whatever leaked from a tested run into its training would show here."""
    turns = localize.turns(whowhen)
    rng = np.random.default_rng(3)
    shuffled = turns.group_by("trajectory_id", maintain_order=True).agg(pl.len().alias("n"))
    truth = shuffled.select("trajectory_id").with_columns(
        turn=pl.Series([int(rng.integers(n)) for n in shuffled["n"]])
    )
    found = localize.benchmark(whowhen, truth, by=None, model="logit")
    chance = row(found, "all runs", "random step", "nothing")["exact"]
    hit = row(found, "all runs", "logit")["exact"]
    assert abs(hit - chance) < 3 * math.sqrt(chance * (1 - chance) / 92)


def test_each_run_is_ranked_by_a_model_that_has_not_seen_its_question(
    whowhen: Trajectories,
) -> None:
    """Another annotation of one run must not change how that run is ranked."""
    turns = localize.turns(whowhen)
    honest = localize.rank(whowhen, model="logit")
    known = honest.frame.filter("is_error").select("trajectory_id", "turn")
    one = known["trajectory_id"][0]
    last = turns.filter(pl.col("trajectory_id") == one)["turn"].max()
    turn = pl.when(pl.col("trajectory_id") == one).then(pl.lit(last)).otherwise("turn")
    again = localize.rank(whowhen, known.with_columns(turn.alias("turn")), model="logit")
    columns = ["rank", "turn", "probability"]
    before, after = (
        found.frame.filter(pl.col("trajectory_id") == one).select(columns)
        for found in (honest, again)
    )
    assert before.equals(after)
    assert not honest.frame.select(columns).equals(again.frame.select(columns))


# ---------------------------------------------------------------------- a planted error


def planted(runs: int, length: int = 14, is_annotated: bool = True) -> Trajectories:
    """Failed runs in which the turn that errs makes an assumption and the next one disputes it."""
    rng = np.random.default_rng(1)
    trajectories: Rows = []
    events: Rows = []
    for run in range(runs):
        error = int(rng.integers(1, length - 2))
        mark = [{"name": "mistake_seq", "value": float(error + 1), "raw": None}]
        trajectories.append(
            {
                "run": run,
                "benchmark": "b",
                "task_id": str(run // 2),
                "success": False,
                "scores": mark if is_annotated else [],
                "metadata": json.dumps({"mistake_agent": f"agent {error % 2}"}),
            }
        )
        texts = [f"We look at item {run * 100 + k} of the list" for k in range(length)]
        texts[error] = f"Assume that item {error} is 7"
        texts[error + 1] = "That is wrong, however we go on"
        events.append({"run": run, "seq": 0, "kind": "system", "text": "be brief"})
        events += [
            {
                "run": run,
                "seq": turn + 1,
                "step": turn,
                "kind": "message",
                "actor": f"agent {turn % 2}",
                "text": text,
                "source_pos": f"/messages/{turn}/content",
            }
            for turn, text in enumerate(texts)
        ]
    return runs_of(trajectories, events=events)


def truth_of(runs: Trajectories) -> pl.DataFrame:
    return localize.rank(runs, model="logit").frame.filter("is_error")


@pytest.mark.parametrize("model", ["logit", "trees", "auto"])
def test_a_planted_error_is_ranked_first(model: Any) -> None:
    found = localize.rank(planted(24), model=model)
    top = found.frame.filter(pl.col("rank") == 1)
    assert top.height == 24
    assert top["is_error"].sum() >= 22
    assert len(found.runs(role="found")) == top["is_error"].sum()
    shares = found.frame.group_by("trajectory_id").agg(pl.col("probability").sum())
    assert shares["probability"].to_numpy() == pytest.approx(1)
    assert (
        found.frame.group_by("trajectory_id")
        .agg(pl.col("rank").sort())
        .select((pl.col("rank") == pl.int_ranges(1, 15)).all())
        .item()
    )
    assert set(found.frame["model"]) <= {"logit", "trees"}


def test_truth_may_name_the_event_the_call_or_the_turn() -> None:
    known = truth_of(planted(24))
    bare = planted(24, is_annotated=False)
    frames = [
        localize.rank(bare, known.select("trajectory_id", unit), model="logit").frame
        for unit in ("seq", "step", "turn")
    ]
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    assert (
        frames[0]
        .filter("is_error")
        .select("trajectory_id", "turn")
        .sort("trajectory_id")
        .equals(known.select("trajectory_id", "turn").sort("trajectory_id"))
    )


def test_runs_without_annotation_are_ranked_too() -> None:
    known = truth_of(planted(40))
    half = known.filter(pl.col("trajectory_id").str.slice(1).cast(pl.Int64) < 24)
    found = localize.rank(planted(40, is_annotated=False), half, model="logit")
    top = found.frame.filter(pl.col("rank") == 1)
    new = top.filter(pl.col("is_error").is_null())
    assert new.height == 16 == len(found.runs(role="not annotated"))
    right = new.join(known, on=["trajectory_id", "turn"], how="semi").height
    assert right >= 15


def test_steps_are_compared_as_numbers_and_never_as_text() -> None:
    """The last of 14 turns is number 13, in which a scorer of substrings would find 1 and 3."""
    runs = planted(24)
    ones = pl.DataFrame({"trajectory_id": [f"r{n}" for n in range(24)], "turn": [1, 3] * 12})
    found = localize.benchmark(runs, ones, by=None, model="logit")
    last = row(found, "all runs", "last step", "nothing")
    assert (last["exact"], last["within_1"], last["top_3"]) == (0, 0, 0)
    assert last["mrr"] == pytest.approx((1 / 13 + 1 / 11) / 2)
    # The agent of turn 13 is that of the odd turns, here always the one annotated.
    assert last["agent"] == 1


def test_features_look_at_no_outcome_and_no_annotation() -> None:
    marked, bare = planted(6), planted(6, is_annotated=False)
    other = bare.label(
        pl.DataFrame({"trajectory_id": bare.ids, "success": [True] * 6}), on="trajectory_id"
    )
    assert localize.features(marked).equals(localize.features(bare))
    assert localize.features(marked).equals(localize.features(other))


def test_features_of_a_run_that_can_be_counted_by_hand() -> None:
    message = {"run": 0, "kind": "message"}
    runs = runs_of(
        [{"run": 0}],
        events=[
            {"run": 0, "seq": 0, "kind": "user", "text": "count red apples", "source_pos": "/q"},
            {**message, "seq": 1, "step": 0, "actor": "A", "text": "suppose 12 apples and 3.5 pears",
             "source_pos": "/m/0/text"},
            {"run": 0, "seq": 2, "step": 0, "kind": "tool_call", "tool": "sh", "actor": "A",
             "arguments": "{}", "source_pos": "/m/0/call"},
            {"run": 0, "seq": 3, "step": 0, "kind": "tool_result", "tool": "sh", "call_seq": 2,
             "text": "boom", "is_error": True, "source_pos": "/m/1"},
            {**message, "seq": 4, "step": 1, "actor": "Reviewer", "source_pos": "/m/2",
             "text": "That is incorrect: red pears are no red apples, so the answer is pears"},
        ],
    )  # fmt: skip
    table = localize.features(runs)
    assert table.select("turn", "seq", "last_seq", "agent").rows() == [
        (0, 1, 2, "A"),
        (1, 3, 3, "sh"),
        (2, 4, 4, "Reviewer"),
    ]
    columns = {name: table[name].to_list() for name in localize.FEATURES}
    assert columns["calls"] == [1, 0, 0]
    assert columns["assumes"] == columns["first_assumes"] == [1, 0, 0]
    assert columns["numbers"] == [math.log1p(2), 0, 0]
    assert columns["error"] == [0, 1, 0]
    assert columns["error_next"] == columns["first_failing"] == [1, 0, 0]
    assert columns["errors_so_far"] == [0, 0, 1]
    assert columns["errors_after"] == [0.5, 0, 0]
    assert columns["is_response"] == [0, 1, 0]
    assert columns["next_disagrees"] == columns["first_disputed"] == [0, 1, 0]
    assert columns["agent_checks"] == [0, 0, 1]
    assert columns["agent_order"] == [0, 1, 2]
    # suppose 12 apples and pears, of which the question has apples; the last turn takes up pears
    assert columns["question_share"][0] == pytest.approx(1 / 5)
    assert columns["novelty"][0] == pytest.approx(4 / 5)
    assert columns["kept"][0] == pytest.approx(1 / 4)
    # that is incorrect pears are no so the answer, without red and apples: 9 words, one from turn 0
    assert columns["answer_share"] == pytest.approx([1 / 9, 0, 1])
    assert columns["answer_new"] == pytest.approx([1 / 9, 0, 8 / 9])


def test_features_hold_in_every_format_of_the_samples() -> None:
    runs = loaders.load([ROOT / "sample_logs/frameworks", *STUDY_PARTS.values()])
    table = localize.features(runs)
    assert table["trajectory_id"].n_unique() > 150
    values = table.select(localize.FEATURES.keys()).to_numpy()
    assert np.isfinite(values).all()
    assert values.min() >= 0
    per_run = table.group_by("run").agg(pl.col("turn").sort(), pl.len().alias("n"))
    assert per_run.select((pl.col("turn") == pl.int_ranges("n")).all()).item()
    assert (table["seq"] <= table["last_seq"]).all()


# ---------------------------------------------------------------------- refusals


def test_too_few_annotations_are_refused() -> None:
    with pytest.raises(DerailError, match="19 annotated runs of 10 tasks; 20 runs"):
        localize.rank(planted(19))
    with pytest.raises(DerailError, match="19 annotated runs"):
        localize.benchmark(planted(19))
    with pytest.raises(DerailError, match="0 annotated runs of 0 tasks"):
        localize.rank(runs_of([{"run": 0, "success": True}]))


def test_too_few_annotations_are_refused_before_any_text_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(annotated_turns, "features", lambda _: pytest.fail("texts were read"))
    with pytest.raises(DerailError, match="19 annotated runs of 10 tasks"):
        localize.rank(planted(19))
    with pytest.raises(DerailError, match="0 annotated runs"):
        localize.rank(planted(24), truth=pl.DataFrame({"trajectory_id": ["no run"], "seq": [1]}))


def test_annotations_that_point_at_no_turn_are_no_annotations() -> None:
    truth = truth_of(planted(24)).with_columns(pl.lit(10**6).alias("seq"))
    with pytest.raises(DerailError, match="0 annotated runs"):
        localize.rank(planted(24), truth)


def test_what_is_no_truth_is_refused_or_warned_of() -> None:
    runs = planted(24)
    known = truth_of(runs).select("trajectory_id", "seq")
    with pytest.raises(DerailError, match="trajectory_id and one of seq, step, turn"):
        localize.rank(runs, known.rename({"seq": "line"}))
    with pytest.raises(DerailError, match="more than one error"):
        localize.rank(runs, pl.concat([known, known]))
    with pytest.raises(DerailError, match="no model 'forest'"):
        localize.rank(runs, model="forest")  # pyright: ignore[reportArgumentType]
    beyond = pl.when(pl.col("trajectory_id") == "r0").then(999).otherwise("seq").alias("seq")
    found = localize.rank(runs, known.with_columns(beyond), model="logit")
    assert "1 annotations point at no turn" in found.warnings[0]
    assert found.frame.filter(pl.col("trajectory_id") == "r0")["is_error"].null_count() == 14


def test_sets_are_named_by_a_column_or_a_key_and_small_ones_are_left_out() -> None:
    runs = planted(44)
    arms = pl.DataFrame({"trajectory_id": runs.ids, "arm": ["a"] * 40 + ["b"] * 4})
    found = localize.benchmark(runs.label(arms, on="trajectory_id"), by="arm", model="logit")
    assert found.frame["group"].unique().to_list() == ["a"]
    assert any("left" not in text and "test on: b" in text for text in found.warnings)
    assert (
        localize.benchmark(planted(20), by="no 'such' key", model="logit").frame["group"][0]
        == "all runs"
    )


# ---------------------------------------------------------------------- the chance of success


@pytest.fixture(scope="module")
def harmed() -> Trajectories:
    return simulate(Planted(tasks=60, runs=4, error_odds=6.0, error_rate=0.1), seed=2)


def test_the_chance_of_success_drops_where_the_planted_harm_is_met(harmed: Trajectories) -> None:
    """A returned error multiplies the odds of failing at the next call by 6, a timeout by 1."""
    codes = (
        harmed.events.filter(pl.col("kind") == "tool_result")
        .group_by("trajectory_id", "step")
        .agg(pl.col("exit_code").sum().alias("code"))
        .collect()
    )
    table = localize.value(harmed).frame.join(codes, on=["trajectory_id", "step"])
    drop = {code: table.filter(pl.col("code") == code)["drop"] for code in (0, 1, 124)}
    harm, null = _mean(drop[1]) - _mean(drop[0]), _mean(drop[124]) - _mean(drop[0])
    assert min(len(values) for values in drop.values()) > 40
    assert harm > 0.04
    assert abs(null) < harm / 2


def test_the_chance_of_success_is_calibrated(harmed: Trajectories) -> None:
    frame = localize.calibration(harmed).frame
    assert frame["predicted"].is_sorted()
    inside = frame.filter(pl.col("predicted").is_between("low", "high")).height
    assert inside >= 4
    assert frame["prefixes"].sum() == localize.value(harmed).frame.height
    assert frame["observed"][-1] - frame["observed"][0] > 0.1


def test_a_prefix_knows_nothing_of_what_comes_after(harmed: Trajectories) -> None:
    from analysis.prefixes import PREFIX_FEATURES, prefix_features

    study = loaders.load(ROOT / "sample_logs/study/none/planner-1/inspect/timeout.eval")
    for runs in (harmed, study):
        whole = prefix_features(runs)
        assert np.isfinite(whole.select(PREFIX_FEATURES.keys()).to_numpy()).all()
        early = pl.col("step").fill_null(-1) <= 2
        cut = Trajectories(
            {
                "trajectories": runs.trajectories,
                "steps": runs.steps.filter(early),
                "events": runs.events.filter(early),
                "tools": runs.tools,
                "problems": runs.problems,
            }
        )
        assert prefix_features(cut).equals(whole.filter(early))


def test_the_value_of_a_task_is_learnt_from_other_tasks(harmed: Trajectories) -> None:
    honest = localize.value(harmed).frame
    task = honest["task"][0]
    own = honest.filter(pl.col("task") == task)
    flipped = own.select("trajectory_id", ~pl.col("success")).unique("trajectory_id")
    again = localize.value(harmed.label(flipped, on="trajectory_id")).frame
    assert again.filter(pl.col("task") == task)["value"].to_list() == own["value"].to_list()
    assert again["value"].to_list() != honest["value"].to_list()


def test_drops_add_up_and_the_largest_is_told_with_its_doubt(harmed: Trajectories) -> None:
    values = localize.value(harmed).frame
    ends = values.group_by("trajectory_id").agg(
        pl.col("drop").sum(), pl.col("value").last(), pl.col("largest").sum()
    )
    starts = ends["drop"] + ends["value"]
    assert starts.round(9).n_unique() <= 10  # a share of success for each fold
    assert ends["largest"].to_list() == [1] * ends.height
    found = localize.drops(harmed, refits=5)
    largest = values.filter("largest").select("trajectory_id", "step", "drop")
    assert (
        found.frame.select("trajectory_id", "step", "drop")
        .sort("trajectory_id")
        .equals(largest.sort("trajectory_id"))
    )
    assert (found.frame["low"] <= found.frame["high"]).all()
    assert found.frame["agreement"].is_between(0, 1).all()
    assert found.frame["drop"].is_sorted(descending=True)
    assert np.allclose(found.frame["before"] - found.frame["after"], found.frame["drop"])
    sure = found.frame.filter(pl.col("met").list.contains("exec_error"))
    assert _mean(sure["agreement"]) > _mean(found.frame["agreement"])
    failures = found.runs(role="failure").trajectories.collect()
    assert failures["success"].to_list() == [False] * failures.height
    assert localize.drops(harmed, refits=0).frame["low"].null_count() == found.frame.height


def _mean(values: pl.Series) -> float:
    return float(np.mean(values.to_numpy()))


def test_values_of_the_study_are_calibrated_and_drop_at_its_perturbed_responses() -> None:
    study = loaders.load(ROOT / "sample_logs/study/none/*/openai_agents/*.zst")
    assert (
        localize.calibration(study)
        .frame.filter(pl.col("predicted").is_between("low", "high"))
        .height
        >= 4
    )
    found = localize.drops(study, refits=0).frame.filter(~pl.col("success"))
    planted_at = (
        perturbations.detect(study)
        .filter(pl.col("code").is_in(["exec_error", "exception", "timeout", "empty", "truncated"]))
        .group_by("trajectory_id")
        .agg(pl.col("step").first().alias("planted"))
    )
    joined = found.join(planted_at, on="trajectory_id")
    hit = (joined["step"] == joined["planted"]).mean()
    assert joined.height > 30
    assert hit > 2 * (1 / joined["steps"]).mean()  # against a call taken at random


def test_a_chance_of_success_is_not_learnt_from_few_runs() -> None:
    few = simulate(Planted(tasks=6, runs=4), seed=1)
    for ask in (localize.value, localize.drops, localize.calibration):
        with pytest.raises(DerailError, match="are needed to learn a chance of success"):
            ask(few)
    with pytest.raises(DerailError, match="0 failed and 0 successful"):
        localize.value(runs_of([{"run": n, "success": n % 2 == 0} for n in range(60)]))
