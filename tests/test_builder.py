"""Builder and Run: numbering, ids, links, thinking, token sums, fingerprints, hostile values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from budget import at_most

from loaders.builder import Builder, Frames
from loaders.errors import UnreadableRecord
from loaders.run import Run
from loaders.schema import EVENTS, PROBLEMS, STEPS, TOOLS, TRAJECTORIES
from loaders.sources import MAX_LISTED_PROBLEMS, Source
from loaders.steps import COLUMNS as STEP_COLUMNS
from loaders.whole_runs import EVENT_ROW, STEP_ROW

Tell = Callable[[Run], Any]
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Log:
    """Builds tables from what functions tell of runs in one or more sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builder = Builder()

    def source(self, name: str, content: str = "{}") -> Source:
        path = self.folder / name
        path.write_text(content)
        return Source(path)

    def read(
        self, *tell: Tell, name: str = "log", content: str = "{}", logs_thinking: str = "if_present"
    ) -> Frames:
        self.builder.begin(self.source(name, content), "made", logs_thinking)
        for one in tell:
            with self.builder.record("L1"):
                one(self.builder.trajectory(native_id=one.__name__, pos="L1"))
        self.builder.end()
        return self.builder.frames()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def row(frames: Frames, table: str = "trajectories", at: int = 0) -> dict[str, Any]:
    return frames[table].to_dicts()[at]


# ---------------------------------------------------------------------- numbering and ids


def three_steps(run: Run) -> None:
    run.system("be brief", "/0")
    run.user("go", "/1")
    for number in range(3):
        run.step(source_pos=f"/{number}", input_tokens=10 * number, output_tokens=1)
        run.message(f"m{number}", f"/{number}/m")
        run.call("ls", {"n": number}, f"/{number}/c", call_id=f"c{number}")
        run.result("ok", f"/{number}/r", call_id=f"c{number}")


def test_numbers_have_no_gaps_and_steps_never_go_back(log: Log) -> None:
    frames = log.read(three_steps, three_steps)
    events, steps = frames["events"], frames["steps"]
    for run in (0, 1):
        own = events.filter(pl.col("run") == run)
        assert own["seq"].to_list() == list(range(11))
        assert own["step"].to_list() == [None, None, *[0] * 3, *[1] * 3, *[2] * 3]
        assert own["call_seq"].drop_nulls().to_list() == [3, 6, 9]
    assert steps["step"].to_list() == [0, 1, 2, 0, 1, 2]
    assert steps["seq"].to_list() == [2, 5, 8] * 2
    for name, schema in [("trajectories", TRAJECTORIES), ("steps", STEPS), ("events", EVENTS)]:
        assert frames[name].schema == schema
        assert frames[name]["run"].is_sorted()
        assert frames[name]["trajectory_id"].n_unique() == 2
    assert (frames["tools"].schema, frames["problems"].schema) == (TOOLS, PROBLEMS)
    assert row(frames)["steps"] == 3
    assert row(frames)["events"] == 11


def test_nothing_told_gives_empty_tables_of_the_schema() -> None:
    frames = Builder().frames()
    assert frames["events"].schema == EVENTS
    assert all(frame.is_empty() for frame in frames.values())


def test_rows_have_the_columns_of_the_schema() -> None:
    """Steps by position, rows of a whole run by name."""
    assert list(STEP_COLUMNS) == [name for name in STEPS if name != "trajectory_id"]
    assert set(EVENT_ROW) <= set(EVENTS)
    assert set(STEP_ROW) <= set(STEPS)


def test_ids_are_the_same_wherever_the_file_lies_and_differ_by_content(tmp_path: Path) -> None:
    def ids(folder: str, content: str) -> list[str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        frames = Log(tmp_path / folder).read(three_steps, three_steps, content=content)
        return frames["trajectories"]["trajectory_id"].to_list()

    first = ids("here", "{}")
    assert first == ids("there", "{}")
    assert len({*first, *ids("here", "[]")}) == 4
    assert all(len(name) == 12 and name.isalnum() for name in first)


def test_a_closed_run_takes_no_more(log: Log) -> None:
    kept: list[Run] = []
    frames = log.read(kept.append, three_steps)
    for late in (lambda: kept[0].message("late"), kept[0].step):
        with pytest.raises(RuntimeError, match="closed"):
            late()
    assert frames["trajectories"]["events"].to_list() == [0, 11]


def test_unknown_columns_are_a_mistake_of_the_format(log: Log) -> None:
    wrong = {"tokens": 1}
    frames = log.read(lambda run: run.set(modell="m"), lambda run: run.step(**wrong), three_steps)
    reasons = frames["problems"]["reason"].to_list()
    assert "modell" in reasons[0]
    assert "tokens" in reasons[1]
    assert frames["trajectories"].height == 3


# ---------------------------------------------------------------------- calls and results


def links(log: Log, tell: Tell) -> tuple[list[int | None], int, int]:
    frames = log.read(tell)
    run = row(frames)
    results = frames["events"].filter(pl.col("kind") == "tool_result")
    return results["call_seq"].to_list(), run["unanswered_calls"], run["orphan_results"]


def test_results_link_by_id_in_any_order(log: Log) -> None:
    def tell(run: Run) -> None:
        run.step()
        a, b = run.call("x", None, call_id="a"), run.call("y", None, call_id="b")
        run.result("of b", call_id="b")
        run.result("of a", call_id="a")
        run.result("of a again", call_id="a")
        run.result("of nobody", call_id="z")
        assert (a, b) == (0, 1)

    assert links(log, tell) == ([1, 0, 0, None], 0, 1)
    assert log.builder.frames()["events"]["tool"].to_list()[2:] == ["y", "x", "x", None]


def test_ids_that_restart_link_to_the_latest_step_that_waits(log: Log) -> None:
    def tell(run: Run) -> None:
        run.step()
        run.call("x", None, call_id="c0")  # aborted, never answered
        run.step()
        run.call("x", None, call_id="c0")
        run.result("of the second", call_id="c0")
        run.result("once more", call_id="c0")

    assert links(log, tell) == ([1, 0], 0, 0)


def test_ids_that_repeat_within_a_step_are_answered_in_order(log: Log) -> None:
    def tell(run: Run) -> None:
        run.step()
        for _ in range(3):
            run.call("x", None, call_id="same")
        for _ in range(3):
            run.result("r", call_id="same")

    assert links(log, tell) == ([0, 1, 2], 0, 0)


def test_results_without_ids_link_by_order_or_tool(log: Log) -> None:
    def tell(run: Run) -> None:
        run.step()
        for tool in ("x", "y", "x"):
            run.call(tool, None)
        run.result("first y", tool="y", by_order=True)
        run.result("next", by_order=True)
        run.result("none of that name", tool="z", by_order=True)
        run.result("last", by_order=True)
        run.result("one too many", by_order=True)
        run.result("no link asked for")

    assert links(log, tell) == ([1, 0, None, 2, None, None], 0, 3)


def test_a_format_that_knows_the_call_may_name_it(log: Log) -> None:
    def tell(run: Run) -> None:
        run.step()
        run.call("x", None, call_id="a")
        call = run.call("y", None, call_id="a")
        run.result("r", answers=call)

    assert links(log, tell) == ([1], 1, 0)
    assert log.builder.frames()["events"]["tool"].to_list()[-1] == "y"


@pytest.mark.parametrize("kind", ["same id", "never answered", "by tool"])
def test_linking_is_linear(kind: str, log: Log) -> None:
    def tell(run: Run) -> None:
        for number in range(20_000):
            run.step()
            if kind == "never answered":
                run.call("other", None)
            run.call("x", None, call_id="c0" if kind == "same id" else None)
            by_order = kind != "same id"
            run.result(
                "r", call_id="c0" if kind == "same id" else None, tool="x", by_order=by_order
            )
            assert number >= 0

    with at_most(8):
        assert links(log, tell)[2] == 0


# ---------------------------------------------------------------------- thinking


def thoughts(log: Log, logs_thinking: str, *of_steps: dict[str, Any]) -> dict[str, list[Any]]:
    def tell(run: Run) -> None:
        for step in of_steps:
            run.step(reasoning_tokens=step.get("tokens"))
            for state, text in step.get("blocks", ()):
                run.thinking(text, state=state)

    steps = log.read(tell, logs_thinking=logs_thinking)["steps"]
    return {
        name: steps[name].to_list() for name in ("thinking", "thinking_chars", "thinking_available")
    }


@pytest.mark.parametrize(
    ("logs_thinking", "steps", "states", "available"),
    [
        ("if_present", [{}, {}], [None, None], [None, None]),
        ("if_present", [{"tokens": 9}, {}], ["not_logged", None], [None, None]),
        ("if_present", [{"tokens": 0}, {}], ["absent", None], [None, None]),
        ("always", [{}, {"tokens": 9}], ["absent", "not_logged"], [0, 0]),
        ("never", [{}, {"tokens": 0}], ["not_logged", "not_logged"], [None, None]),
        (
            "if_present",
            [{}, {"blocks": [("text", "abc")]}, {"tokens": 5}, {}],
            ["absent", "text", "not_logged", "absent"],
            [0, 0, 1, 1],
        ),
    ],
)
def test_the_state_of_thinking_is_derived_as_documented(
    logs_thinking: str, steps: list[Any], states: list[Any], available: list[Any], log: Log
) -> None:
    found = thoughts(log, logs_thinking, *steps)
    assert found["thinking"] == states
    assert found["thinking_available"] == available
    unknown = [state in (None, "not_logged") for state in states]
    assert [chars is None for chars in found["thinking_chars"]] == unknown


def test_a_step_is_named_after_the_block_that_tells_most(log: Log) -> None:
    order = ["redacted", "hidden", "summary", "tagged_in_text", "text"]
    for weaker, stronger in pairwise(order):
        blocks = [(weaker, "ab"), (stronger, "cde"), (weaker, None)]
        found = thoughts(log, "if_present", {"blocks": blocks})
        assert (found["thinking"][-1], found["thinking_chars"][-1]) == (stronger, 5)


def test_what_a_call_saw_lies_before_it(log: Log) -> None:
    def tell(run: Run) -> None:
        run.user("go")
        for _ in range(3):
            run.step()
            run.thinking("t")
            run.message("m")
        run.saw([(-3, 2), (1, 99)], {1, 3, 5, 77}, "request")  # step 2: events 0..4 stand before it
        run.saw(None, {1}, "wire", step=1)
        run.saw([(0, 1)], None, "tokens", step=0)

    steps = log.read(tell)["steps"].to_dicts()
    assert steps[2]["context"] == [{"start": 0, "stop": 5}]
    assert steps[2]["thinking_sent"] == 2
    assert steps[2]["thinking_context"] == [{"start": 1, "stop": 4}]
    assert (steps[2]["history_edit"], steps[2]["evidence"]) == ("none", "request")
    assert (steps[1]["context"], steps[1]["thinking_sent"], steps[1]["evidence"]) == (
        None,
        1,
        "wire",
    )
    assert (steps[0]["thinking_sent"], steps[0]["history_edit"]) == (None, None)


def test_thinking_left_out_of_a_request_is_an_edit_of_history(log: Log) -> None:
    def tell(run: Run) -> None:
        for _ in range(3):
            run.step()
            run.thinking("t")
        run.saw(None, {1}, "request")
        run.saw(None, set(), "request", step=1)
        run.saw(None, set(), "request", history_edit="compacted", step=0)

    steps = log.read(tell)["steps"]
    assert steps["history_edit"].to_list() == ["compacted", "thinking_dropped", "thinking_dropped"]
    assert steps["thinking_sent"].to_list() == [0, 0, 1]
    assert log.builder.frames()["steps"]["evidence"].to_list() == ["request"] * 3


def test_without_a_request_nothing_is_said_of_what_was_sent(log: Log) -> None:
    steps = log.read(three_steps)["steps"]
    assert steps["evidence"].unique().to_list() == ["unknown"]
    for name in ("thinking_sent", "context", "thinking_context", "history_edit"):
        assert steps[name].null_count() == 3


# ---------------------------------------------------------------------- derived columns


def test_tokens_are_sums_over_the_steps_that_report_them(log: Log) -> None:
    def tell(run: Run) -> None:
        run.set(output_tokens=999, cached_tokens=7)
        run.step(input_tokens=5, output_tokens=1)
        run.step(input_tokens=None, output_tokens=2)

    found = row(log.read(tell))
    assert (found["input_tokens"], found["output_tokens"]) == (5, 3)
    assert found["cached_tokens"] == 7  # as the log gives it, where no step does
    assert found["reasoning_tokens"] is None


def test_a_negative_number_is_no_count_of_tokens(log: Log) -> None:
    def tell(run: Run) -> None:
        run.set(cached_tokens=-7)
        run.step(input_tokens=-5, output_tokens=1, source_pos="/1")

    runs = log.read(tell)
    found = row(runs)
    assert (found["input_tokens"], found["output_tokens"], found["cached_tokens"]) == (
        None,
        1,
        None,
    )
    reasons = runs["problems"]["reason"].to_list()
    assert reasons == ["cached_tokens: -7 is no count", "input_tokens: -5 is no count"]


def test_times_and_model_come_from_the_events_where_the_log_gives_none(log: Log) -> None:
    def timed(run: Run) -> None:
        run.user("go", at=NOON)
        run.step(
            model="m", started_at=NOON + timedelta(seconds=5), ended_at=NOON + timedelta(hours=1)
        )
        run.message("m", at=NOON - timedelta(seconds=9))

    def two_models(run: Run) -> None:
        run.set(started_at=NOON)
        run.step(model="m")
        run.step(model="n")

    frames = log.read(timed, two_models)
    first, second = row(frames), row(frames, at=1)
    assert (first["started_at"], first["ended_at"]) == (
        NOON - timedelta(seconds=9),
        NOON + timedelta(hours=1),
    )
    assert (first["model"], second["model"]) == ("m", None)
    assert (second["started_at"], second["ended_at"]) == (NOON, None)


def test_outcome_is_unknown_unless_told(log: Log) -> None:
    def told(run: Run) -> None:
        run.outcome(success=False, score=0.25, scores=[("a", 1.0, "1"), ("b", None, "C")])

    def by_name(run: Run) -> None:
        run.outcome("limit", end_reason="max_steps")

    frames = log.read(three_steps, told, by_name)
    assert frames["trajectories"]["outcome"].to_list() == ["unknown", "failure", "limit"]
    assert frames["trajectories"]["success"].to_list() == [None, False, None]
    assert row(frames, at=1)["scores"] == [
        {"name": "a", "value": 1.0, "raw": "1"},
        {"name": "b", "value": None, "raw": "C"},
    ]
    assert row(frames)["scores"] is None


AXES = ("toolset", "system_prompt", "user_prompt", "environment", "tool_responses")


def test_each_axis_has_a_fingerprint_of_its_own(log: Log) -> None:
    base: dict[str, Any] = {
        "toolset": [("ls", "lists", {"a": 1, "b": 2}), ("rm", None, None)],
        "system_prompt": "be brief",
        "user_prompt": "go",
        "environment": {"cwd": "/a", "os": "linux"},
        "tool_responses": "ok",
    }

    def axes(**change: Any) -> dict[str, Any]:
        given = {**base, **change}

        def tell(run: Run) -> None:
            run.tools(given["toolset"])
            run.system(given["system_prompt"])
            run.user(given["user_prompt"])
            run.environment(**given["environment"])
            run.step()
            run.call("ls", None, call_id="a")
            run.result(given["tool_responses"], call_id="a")

        frames = Log(log.folder).read(tell)
        return {axis: row(frames)[axis] for axis in AXES}

    same = axes()
    for axis, other in [
        ("toolset", [("ls", "lists", {"a": 1, "b": 3}), ("rm", None, None)]),
        ("system_prompt", "be long"),
        ("user_prompt", "stop"),
        ("environment", {"cwd": "/b", "os": "linux"}),
        ("tool_responses", "no"),
    ]:
        changed = axes(**{axis: other})
        assert [name for name in AXES if changed[name] != same[name]] == [axis]
    for axis, other in [
        ("toolset", list(reversed(base["toolset"]))),
        ("toolset", [("ls", "lists", {"b": 2, "a": 1}), ("rm", None, None)]),
        ("toolset", [("ls", "lists", '{"b": 2,  "a": 1}'), ("rm", None, None)]),
        ("environment", {"os": "linux", "cwd": "/a", "image": None}),
    ]:
        assert axes(**{axis: other}) == same
    assert all(len(value) == 16 for value in same.values())


def test_axes_that_the_log_does_not_show_are_null(log: Log) -> None:
    frames = log.read(lambda run: run.step())
    assert [row(frames)[axis] for axis in AXES] == [None] * 5


def test_a_toolset_is_kept_once_and_each_step_names_its_own(log: Log) -> None:
    def tell(run: Run) -> None:
        run.step()
        run.tools([("ls", None, None)])
        run.step()
        run.tools([("rm", None, None), ("ls", None, None)])
        run.step()

    frames = log.read(tell, tell)
    sets = frames["steps"]["toolset"].to_list()
    assert sets[0] is None
    assert sets[1] != sets[2]
    assert frames["tools"].height == 3
    assert row(frames)["toolset"] == sets[1]


def test_subagents_and_params(log: Log) -> None:
    def tell(run: Run) -> None:
        run.set(params={"temperature": 0, "api_key": "abc"}, metadata={})
        run.step()
        run.spawned("child", run.call("task", None))

    frames = log.read(tell)
    assert row(frames)["params"] == '{"temperature":0,"api_key":"[redacted credential]"}'
    assert row(frames)["metadata"] is None
    assert row(frames, "spawns") == {
        "run": 0,
        "seq": 0,
        "child_native_id": "child",
        "format": "made",
    }
    assert row(frames, "problems")["reason"] == "1 credentials redacted in params or metadata"


# ---------------------------------------------------------------------- hostile values


def test_values_of_a_wrong_type_are_dropped_and_counted_for_their_source(log: Log) -> None:
    hostile: Any = [
        {"text": 5},
        {"at": "noon", "text": "kept"},
        {"is_error": "yes"},
        {"exit_code": 2**70},
        {"media": "png"},
        {"media": ["png", 3]},
        {"duration_s": "fast"},
    ]

    def tell(run: Run) -> None:
        run.message("fine")
        for more in hostile:
            try:
                run.event("message", more.pop("text", None), **more)
            except TypeError:
                run.message("a time must be a time")
        run.event("nonsense", "kept too")

    log.read(three_steps, name="good")
    frames = log.read(tell, name="bad")
    assert frames["events"].schema == EVENTS
    own = frames["events"].filter(pl.col("run") == 1)
    assert own.height == len(hostile) + 2
    assert "kept too" in own["text"].to_list()
    problems = frames["problems"]
    assert set(problems["source"]) == {(log.folder / "bad").as_posix()}
    assert problems["severity"].unique().to_list() == ["warning"]
    wrong = problems["reason"].str.extract(r"wrong type in (\w+)").drop_nulls().to_list()
    assert {"text", "is_error", "exit_code", "media", "duration_s", "kind"} <= set(wrong)


def test_columns_of_runs_and_steps_are_checked_too(log: Log) -> None:
    def tell(run: Run) -> None:
        run.set(model=["m"], score="high", scores=[{"name": 1}], outcome="won", ended_at=5)
        run.step(input_tokens="many", thinking="loud")
        run.update_step(context=[{"start": "a", "stop": 2}])

    frames = log.read(tell, three_steps)
    assert row(frames)["model"] is None
    assert frames["trajectories"].schema == TRAJECTORIES
    assert frames["steps"].schema == STEPS
    assert frames["events"]["run"].unique().to_list() == [1]
    assert frames["problems"].height >= 5


def test_lone_surrogates_read_as_a_replacement(log: Log) -> None:
    def tell(run: Run) -> None:
        run.set(metadata={"a": "cut \ud83d"})
        run.user("cut \ud83d")
        run.tools([("t", "d\ud800", {"x": "\ud800"})])

    frames = log.read(tell)
    assert row(frames, "events")["text"] == "cut \ufffd"
    assert row(frames)["metadata"] == '{"a":"cut \ufffd"}'
    assert row(frames, "tools")["description"] == "d\ufffd"
    assert frames["problems"].is_empty()


def test_a_run_that_can_not_be_closed_keeps_its_place(log: Log) -> None:
    nested: list[Any] = []
    for _ in range(950):
        nested = [nested]

    def hostile(run: Run) -> None:
        run.message("first")
        run.set(params={"deep": nested}, metadata={"odd": object()}, model=nested)

    frames = log.read(hostile, three_steps)
    assert frames["trajectories"]["run"].to_list() == [0, 1]
    ids = frames["trajectories"]["trajectory_id"].to_list()
    assert (
        frames["events"].filter(pl.col("run") == 1)["trajectory_id"].unique().to_list() == ids[1:]
    )
    assert frames["events"].filter(pl.col("run") == 0)["text"].to_list() == ["first"]
    assert set(frames["problems"]["source"]) == {(log.folder / "log").as_posix()}


def test_a_record_in_trouble_is_a_problem_with_its_place(log: Log) -> None:
    builder = log.builder
    source = log.source("log")
    builder.begin(source, "made", "if_present")
    source.position = "L7"
    for error in (
        UnreadableRecord("odd", "/x"),
        UnreadableRecord("odd"),
        ValueError("x" * 10_000),
        PermissionError(13, "Permission denied", "f"),
    ):
        with builder.record(None):
            raise error
    with builder.record("L9"):
        raise KeyError("k")
    builder.end()
    problems = builder.frames()["problems"]
    assert problems["position"].to_list() == ["/x", "L7", "L7", "L7", "L9"]
    assert problems["reason"].str.len_chars().max() < 700  # type: ignore[operator]
    assert "test_builder.py:" in problems["reason"][2]
    assert problems["reason"][3] == "f: Permission denied"


def test_problems_of_one_source_are_listed_up_to_a_limit(log: Log) -> None:
    log.builder.begin(log.source("log"), "made", "if_present")
    for number in range(MAX_LISTED_PROBLEMS + 500):
        log.builder.problem(f"L{number}", "odd")
    log.builder.end()
    log.read(three_steps, name="good")
    log.builder.begin(log.source("next"), "made", "if_present")
    log.builder.problem("L1", "odd")
    log.builder.end()
    problems = log.builder.frames()["problems"]
    assert problems.height == MAX_LISTED_PROBLEMS + 2
    assert problems["reason"].to_list()[-2:] == ["500 more problems, not listed", "odd"]


def test_credentials_are_taken_out_of_all_texts_and_counted_by_source(log: Log) -> None:
    secret = "AKIA" + "A" * 16

    def tell(run: Run) -> None:
        run.tools([("t", secret, {"d": secret})])
        run.outcome(end_reason=secret, scores=[("s", None, secret)])
        run.step(error=secret)
        run.message(secret)
        run.call("t", {"key": secret})
        run.problem(None, f"odd {secret}")

    log.read(three_steps, name="good")
    frames = log.read(tell, name="leaky")
    for frame in frames.values():
        assert secret not in frame.write_json()
    reasons = frames["problems"].filter(pl.col("reason").str.contains("redacted in"))
    assert set(reasons["source"]) == {(log.folder / "leaky").as_posix()}
    assert reasons.height == 4


def test_long_logs_are_put_into_columns_piece_by_piece(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.builder._ROWS_PER_CHUNK", 8)
    frames = log.read(three_steps, three_steps, three_steps)
    assert len(log.builder.event_rows) == 0
    again = Log(log.folder)
    monkeypatch.undo()
    whole = again.read(three_steps, three_steps, three_steps)
    for name, frame in frames.items():
        assert frame.equals(whole[name])
