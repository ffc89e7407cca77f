"""The widgets without a browser: what a click would send is set, and what it would show is asserted."""

from __future__ import annotations

import base64
import itertools
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small import runs_of

import analysis
import loaders
from analysis.divergence import first_divergence
from analysis.outcomes import conditions
from analysis.widgets import AblationBuilder, BreakdownFinder, Explorer, FigureStudio, Timeline
from analysis.widgets.parting import partings
from analysis.widgets.pieces import STATIC, Controls, Note
from analysis.widgets.runtable import HEAD, RunTable
from analysis.widgets.strips import side_by_side, strip_of
from loaders import Trajectories
from loaders.errors import DerailError

TASKS = 24


def study(outcomes: bool = True, models: tuple[str, ...] = ("m",)) -> Trajectories:
    """Tasks in two arms; arm b meets a broken response, repeats its call and fails more often."""
    trajectories: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for task in range(TASKS):
        for arm, model in itertools.product(("a", "b"), models):
            run = len(trajectories)
            success = (task % 4 != 0) if arm == "a" else task % 4 == 3
            broken = arm == "b" and task % 2 == 0
            rows: list[dict[str, Any]] = [
                {"kind": "system", "text": "You are a clerk."},
                {"kind": "user", "text": f"Do task {task}."},
            ]
            for step in range(3):
                rows += [
                    {"kind": "thinking", "text": f"plan {step}", "step": step, "thinking_state": "text"},
                    {"kind": "tool_call", "tool": "look_up" if step < 2 else "submit", "arguments": f'{{"n": {step}}}', "step": step},
                    {"kind": "tool_result", "tool": "look_up" if step < 2 else "submit", "step": step, "call_seq": 3 + 3 * step,
                     "text": "Error: connection refused" if broken and step == 1 else f"value {step} of {task}", "is_error": broken and step == 1},
                ]  # fmt: skip
            events += [{**row, "run": run, "seq": seq} for seq, row in enumerate(rows)]
            steps += [
                {
                    "run": run,
                    "step": step,
                    "seq": 2 + 3 * step,
                    "thinking": "text",
                    "thinking_available": step,
                    "thinking_sent": 0 if arm == "b" else step,
                    "evidence": "request",
                    "history_edit": "thinking_dropped" if arm == "b" and step else "none",
                }
                for step in range(3)
            ]
            trajectories.append(
                {
                    "run": run,
                    "task_id": f"t{task}",
                    "trial": "1",
                    "arm": arm,
                    "model": model,
                    "steps": 3,
                    "events": len(rows),
                    "source": "nowhere.jsonl",
                    **({"outcome": "success" if success else "failure", "success": success} if outcomes else {}),
                }
            )  # fmt: skip
    return runs_of(trajectories, steps, events)


@pytest.fixture(scope="module")
def runs() -> Trajectories:
    return study()


@pytest.fixture(scope="module")
def scanned(runs: Trajectories, tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    return loaders.scan(runs.save(tmp_path_factory.mktemp("store") / "s"))


def row_of(explorer: Explorer, name: str) -> list[Any]:
    return explorer.heatmap.cells[list(explorer.heatmap.rows).index(name)]


# ---------------------------------------------------------------------- explorer


def test_the_heatmap_counts_failures_by_condition_and_tool(runs: Trajectories) -> None:
    explorer = Explorer(runs)
    assert list(explorer.heatmap.rows) == ["a", "b"]
    assert explorer.heatmap.columns == ["all runs", "look_up", "submit"]
    assert [cell["text"] for cell in row_of(explorer, "a")] == ["25 %"] * 3
    assert [cell["text"] for cell in row_of(explorer, "b")] == ["75 %"] * 3
    explorer.show(measure="calls")
    assert [cell["text"] for cell in row_of(explorer, "a")] == ["3.0", "2.0", "1.0"]
    explorer.show(measure="perturbed")
    assert [cell["text"] for cell in row_of(explorer, "b")] == ["16.7 %", "25.0 %", "0.0 %"]
    assert [cell["text"] for cell in row_of(explorer, "a")] == ["0.0 %"] * 3


def test_from_a_cell_to_runs_to_an_event_and_its_raw_record() -> None:
    runs = loaders.load("sample_logs/frameworks/mini_swe_agent/**/*.json")
    explorer = Explorer(runs)
    explorer.pick(explorer._heat.conditions[0][0])
    assert explorer.table.height > 0
    explorer.open_run(explorer.table["trajectory_id"][0])
    explorer.timeline.next_call()
    assert explorer.event is not None
    assert explorer.event["kind"] == "tool_call"
    assert explorer.view.event["title"].startswith("tool call")
    raw = runs.raw(explorer.trajectory_id, explorer.seq)
    assert json.loads(explorer.view.raw) == raw


def test_a_picked_cell_lists_its_runs_failures_first(runs: Trajectories) -> None:
    explorer = Explorer(runs)
    explorer.heatmap.picked = [1, 2]
    assert explorer.list.title == "b · submit"
    assert explorer.table["arm"].unique().to_list() == ["b"]
    assert explorer.table["outcome"].to_list() == ["failure"] * 18 + ["success"] * 6
    assert len(explorer.list.rows) == HEAD
    assert explorer.list.hidden == TASKS - HEAD
    explorer.list.click("more")
    assert (len(explorer.list.rows), explorer.list.hidden) == (TASKS, 0)
    assert len(explorer.chosen) == TASKS


def test_filters_keep_what_they_say(runs: Trajectories) -> None:
    explorer = Explorer(runs)
    explorer.keep(thinking="dropped")
    assert explorer.table["arm"].unique().to_list() == ["b"]
    explorer.keep(thinking="", code="http_error")
    assert explorer.table.height == TASKS // 2
    explorer.keep(code="any", outcome="success")
    assert explorer.table.is_empty()
    assert explorer.heatmap.rows == []
    explorer.keep(code="", outcome="success")
    assert explorer.table["success"].all()
    assert explorer.table.height == 18 + 6
    assert explorer.heatmap.title.startswith("Number of runs")  # all of them succeed: no news
    explorer.keep(outcome="")
    assert explorer.heatmap.title.startswith("Runs that fail")


def test_search_keeps_runs_that_say_it_and_marks_where(runs: Trajectories) -> None:
    explorer = Explorer(runs)
    explorer.search("VALUE 1 of 7")
    assert explorer.table["task_id"].to_list() == ["t7", "t7"]
    explorer.open_run(explorer.table["trajectory_id"][0])
    assert explorer.timeline.strips[0]["matches"] == [7]
    explorer.search("nobody says this")
    assert explorer.table.is_empty()


def test_a_store_answers_as_memory_does(runs: Trajectories, scanned: Trajectories) -> None:
    mine, theirs = Explorer(runs), Explorer(scanned)
    for explorer in (mine, theirs):
        explorer.search("connection")
        explorer.pick("b", "look_up")
        explorer.open_run(explorer.table["trajectory_id"][0])
        explorer.timeline.next_perturbed()
    assert mine.heatmap.cells == theirs.heatmap.cells
    assert mine.table.equals(theirs.table)
    assert mine.timeline.strips == theirs.timeline.strips
    assert mine.event == theirs.event
    assert mine.timeline.code == "http_error"


def test_many_events_are_searched_for_perturbations_beside_the_kernel(
    scanned: Trajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.widgets.explorer.AT_ONCE", 10)
    explorer = Explorer(scanned)
    assert not explorer._about.knows_codes
    explorer.keep(code="look")
    explorer.wait()
    assert explorer.table.height == TASKS // 2
    assert explorer.controls.values["code"] == "any"
    assert explorer.note.texts == ()


def test_where_no_outcome_is_known_the_explorer_says_so_and_counts_calls() -> None:
    explorer = Explorer(study(outcomes=False))
    assert "runs.label(" in explorer.heatmap.note
    assert row_of(explorer, "a")[1]["text"] == "2.0"
    assert explorer.table["outcome"].unique().to_list() == ["unknown"]


def test_unknown_names_are_refused_with_the_known_ones(runs: Trajectories) -> None:
    with pytest.raises(DerailError, match="there are arm"):
        Explorer(runs, by="armm")
    explorer = Explorer(runs)
    with pytest.raises(DerailError, match="tools"):
        explorer.pick("a", "no such tool")
    with pytest.raises(KeyError):
        explorer.open_run("no such run")
    with pytest.raises(ValueError, match="no option"):
        explorer.keep(outcome="glorious")


def test_runs_without_conditions_tools_or_events_are_shown_as_they_are() -> None:
    lonely = runs_of([{"run": 0, "steps": 0, "events": 0}])
    assert conditions(lonely) == []
    explorer = Explorer(lonely)
    assert explorer.heatmap.columns == ["all runs"]
    explorer.open_run("r0")
    assert explorer.timeline.strips[0]["kind"] == []
    nobody = Explorer(runs_of([]))
    assert nobody.table.is_empty()
    assert "runs.label(" in nobody.heatmap.note


# ---------------------------------------------------------------------- timeline


def test_the_strip_marks_broken_responses_and_dropped_thinking(runs: Trajectories) -> None:
    strip = strip_of(runs["r1"], "b")
    assert strip.marks == {7: "http_error"}
    assert strip.errors == [7]
    assert strip.dropped == {
        5: "0 of 1 earlier thinking blocks sent",
        8: "0 of 2 earlier thinking blocks sent",
    }
    assert strip_of(runs["r0"], "a").dropped == {}


def test_keys_of_the_timeline_have_methods(runs: Trajectories) -> None:
    line = Timeline(runs, "r1")
    line.next_call()
    assert (line.seq, line.kind) == (3, "tool_call")
    line.next_call()
    line.next_call()
    assert line.seq == 3, "two calls of look_up, then round again"
    line.next_error()
    assert (line.seq, line.code) == (7, "http_error")
    line.select(5)
    assert line.dropped == "0 of 1 earlier thinking blocks sent"
    with pytest.raises(KeyError):
        line.select(99)


def test_two_runs_stand_step_under_step(runs: Trajectories) -> None:
    a, b = strip_of(runs["r0"], "a"), strip_of(runs["r1"], "b")
    longer = [*a.seq, 11]
    a = type(a)(**{**a.__dict__, "seq": longer, "step": [None, None, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2], "kind": [*a.kind, 5]})  # fmt: skip
    first, second, total = side_by_side(a, b)
    assert first[6] == second[5], "step 1 begins at the same slot"
    assert total == 12
    line = Timeline()
    line.show(a, b, difference=(7, 7))
    assert line.difference == min(first[7], second[7])


# ---------------------------------------------------------------------- breakdown finder


def test_pairs_part_at_the_first_different_call_or_response(runs: Trajectories) -> None:
    found = partings(runs, "arm", "a", "b")
    assert found.height == TASKS
    even = found.filter(pl.col("task_id").is_in([f"t{n}" for n in range(0, TASKS, 2)]))
    assert even["step"].unique().to_list() == [1]
    assert even["what"].unique().to_list() == ["response"]
    assert even["seq_a"].unique().to_list() == [7]
    assert found["what"].value_counts().sort("what").rows() == [("never", 12), ("response", 12)]
    assert dict(found["relation"].value_counts().iter_rows()) == {
        "lost": 12, "both fail": 6, "both succeed": 6,
    }  # fmt: skip


def test_a_run_that_ends_first_and_different_arguments_are_partings() -> None:
    call = {"kind": "tool_call", "tool": "t", "step": 0}
    runs = runs_of(
        [{"run": n, "task_id": t, "arm": arm} for n, (t, arm) in enumerate([("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")])],
        [],
        [
            {"run": 0, "seq": 0, **call, "arguments": "1"},
            {"run": 0, "seq": 1, **call, "arguments": "2", "step": 1},
            {"run": 1, "seq": 0, **call, "arguments": "1"},
            {"run": 2, "seq": 0, **call, "arguments": "1"},
            {"run": 3, "seq": 0, "kind": "message", "text": "hm", "step": 0},
            {"run": 3, "seq": 1, **call, "arguments": "other"},
        ],
    )  # fmt: skip
    found = partings(runs, "arm", "a", "b", ["task_id"]).select("what", "step", "seq_a", "seq_b")
    assert found.rows() == [("one ends", 1, 1, None), ("call", 0, 0, 1)]


def test_partings_agree_with_the_analysis_of_divergence() -> None:
    runs = loaders.load("tests/inspect_logs/reasoning_{arm}.eval")
    arms = runs.trajectories.select(pl.col("arm").unique().sort()).collect()["arm"].to_list()
    mine = partings(runs, "arm", arms[0], arms[1], ["task_id"])
    theirs = first_divergence(runs, "arm", ["task_id"], baseline=arms[0]).frame
    both = mine.join(theirs, on=["trajectory_a", "trajectory_b"], suffix="_theirs")
    assert both.height == mine.height > 0
    part = both.filter(pl.col("what").is_in(["call", "one ends"]))
    assert part["step"].equals(part.select(pl.min_horizontal("step_a", "step_b")).to_series())
    assert both.filter(pl.col("what") == "never")["parts"].null_count() == both.filter(pl.col("what") == "never").height  # fmt: skip


def test_brushing_steps_lists_the_pairs_that_part_there(scanned: Trajectories) -> None:
    finder = BreakdownFinder(scanned, by="arm")
    finder.keep("")
    assert finder.pairs.height == TASKS
    finder.chart.brushed = [1, 2]
    assert finder.pairs.height == TASKS // 2
    assert finder.list.title == "Pairs that part at steps 1 to 2"
    finder.brush(2)
    assert finder.pairs.is_empty()
    finder.brush(None)
    finder.keep("parted")
    assert set(finder.pairs["relation"]) == {"lost"}
    assert len(finder.chosen) == 24


def test_a_pair_opens_as_two_timelines_with_the_first_difference(runs: Trajectories) -> None:
    finder = BreakdownFinder(runs, by="arm")
    finder.brush(1)
    finder.open_pair(0)
    assert [strip["label"].split(" · ")[0] for strip in finder.timeline.strips] == ["a", "b"]
    assert finder.timeline.difference == 7
    assert "response" in finder.timeline.hint
    finder.select(7, "b")
    assert finder.event is not None
    assert finder.event["text"] == "Error: connection refused"
    with pytest.raises(IndexError):
        finder.open_pair(99)


def test_the_chart_draws_success_hazard_and_partings(runs: Trajectories) -> None:
    finder = BreakdownFinder(runs, by="arm")
    success, hazard, parted = finder.chart.panels
    assert [series["name"] for series in success["series"]] == ["a", "b"]
    assert success["series"][0]["values"] == [0.75, 0.75, 0.75]
    assert hazard["series"][1]["values"] == [0.0, 0.0, 0.75]
    assert parted["series"][0]["values"] == [0.5]


def test_exchanged_arms_and_what_is_missing(runs: Trajectories) -> None:
    finder = BreakdownFinder(runs, by="arm")
    finder.arms("b", "a")
    assert set(finder.pairs["relation"]) == {"gained"}
    finder.arms("a", "a")
    assert "two different arms" in finder.note.texts[0]
    unjudged = BreakdownFinder(study(outcomes=False), by="arm")
    assert "runs.label(" in unjudged.note.texts[0]
    assert unjudged.pairs.height == TASKS, "pairs part without outcomes as well"
    alone = BreakdownFinder(runs.filter(arm="a"))
    assert "two values" in alone.note.texts[-1]


def test_runs_of_a_pair_are_alike_in_all_other_factors() -> None:
    crossed = study(models=("small", "large"))
    finder = BreakdownFinder(crossed, by="arm")
    assert finder.pair == ["task_id", "trial", "model"]
    models = dict(crossed.trajectories.select("trajectory_id", "model").collect().iter_rows())
    pairs = finder.all_pairs
    assert pairs.height == 2 * TASKS
    assert [models[a] for a in pairs["trajectory_a"]] == [models[b] for b in pairs["trajectory_b"]]
    assert BreakdownFinder(crossed, by="arm", pair=["task_id"]).pair == ["task_id"]
    builder = AblationBuilder(crossed, factors="arm")
    assert builder.controls.values["pair"] == ["task_id", "trial", "model"]
    assert not any("share a key" in text for text in builder.note.texts)
    builder.choose(factors=["model"])
    assert builder.controls.values["pair"] == ["task_id", "trial", "arm"]


# ---------------------------------------------------------------------- ablation builder


def test_the_code_that_is_shown_gives_what_is_shown(runs: Trajectories, scanned: Trajectories) -> None:  # fmt: skip
    choices: list[dict[str, Any]] = [
        {"factors": ["arm"]},
        {"baseline": "b"},
        {"outcome": "behaviour"},
        {"outcome": "success", "pair": ["task_id"]},
    ]
    for given in (runs, scanned):
        builder = AblationBuilder(given, factors="arm")
        for choice in choices:
            builder.choose(**choice)
            namespace: dict[str, Any] = {} if given is scanned else {"runs": given}
            exec(builder.code, namespace)
            assert builder.result is not None
            assert namespace["result"].frame.equals(builder.result.frame)


def test_several_factors_give_interactions() -> None:
    builder = AblationBuilder(study(models=("small", "large")), factors=["arm"])
    assert [row["effect"] for row in builder.effects.rows] == ["b against a"]
    assert builder.effects.rows[0]["reading"] == "worse"
    assert builder.effects.rows[0]["estimate"] == -0.5
    builder.choose(factors=["arm", "model"])
    assert "ablation.factors" in builder.code
    assert [(row["effect"], row["estimate"]) for row in builder.effects.rows] == [
        ("arm=b", -0.5),
        ("model=small", 0.0),
        ("arm=b x model=small", 0.0),
    ]
    assert "pair" not in [field["name"] for field in builder.controls.fields]


def test_an_effect_opens_its_runs(runs: Trajectories) -> None:
    builder = AblationBuilder(runs, factors="arm")
    builder.pick(0)
    assert builder.behind is not None
    assert len(builder.behind) == 2 * TASKS
    assert builder.list.note.startswith("48 runs")
    with pytest.raises(IndexError):
        builder.pick(5)


def test_what_can_not_be_compared_is_said(runs: Trajectories) -> None:
    builder = AblationBuilder(runs, factors="arm")
    builder.choose(factors=[])
    assert builder.note.texts == ("Choose at least one factor.",)
    unjudged = AblationBuilder(study(outcomes=False), factors="arm")
    assert unjudged.note.kind == "error"
    assert "runs.label(" in unjudged.note.texts[0]
    with pytest.raises(DerailError, match="no column 'nope'"):
        AblationBuilder(runs, factors="nope")


def test_names_from_logs_are_literals_in_the_code() -> None:
    evil = "x'); import os; os.abort()  # \n"
    runs = study()
    arms = runs.trajectories.select(
        "trajectory_id", arm=pl.when(pl.col("arm") == "a").then(pl.lit(evil)).otherwise(pl.lit("b"))
    )
    builder = AblationBuilder(runs.label(arms, on="trajectory_id"), factors="arm")
    builder.choose(baseline=evil)
    namespace: dict[str, Any] = {"runs": builder.runs}
    exec(builder.code, namespace)
    assert namespace["result"].frame["a"].to_list() == [evil]


# ---------------------------------------------------------------------- figure studio


def test_the_preview_is_as_wide_as_the_column(runs: Trajectories, tmp_path: Path) -> None:
    studio = FigureStudio(analysis.outcomes.success(runs), folder=tmp_path)
    for inches, theme in ((3.25, "light"), (6.75, "dark")):
        studio.choose(width=inches, theme=theme)
        assert abs(studio.preview.width - 96 * inches) <= 4
        kind, _, picture = studio.preview.picture.partition(",")
        assert kind == "data:image/png;base64"
        pixels = int.from_bytes(base64.b64decode(picture)[16:20])  # as the header says
        assert abs(pixels / 300 - inches) < 0.05
        assert studio.preview.theme == theme


def test_an_export_holds_the_figure_its_data_and_its_provenance(runs: Trajectories, tmp_path: Path) -> None:  # fmt: skip
    result = analysis.outcomes.success(runs)
    studio = FigureStudio({"rates": result}, folder=tmp_path)
    studio.files.click("export")
    assert studio.note.kind == "info"
    endings = {path.suffix for path in studio.exported}
    assert {".pdf", ".svg", ".png", ".csv", ".json"} <= endings
    pdf = next(path for path in studio.exported if path.suffix == ".pdf")
    assert pdf.read_bytes().startswith(b"%PDF-")
    data = pl.read_csv(next(path for path in studio.exported if path.suffix == ".csv"))
    assert data["success"].to_list() == result.frame["success"].to_list()
    with pytest.raises(DerailError, match="no file name"):
        studio.export("../outside")


def test_every_standard_figure_is_drawn_or_says_why_not(runs: Trajectories) -> None:
    studio = FigureStudio(runs)
    drawn: list[str] = []
    for name, _ in studio.controls.fields[0]["options"]:
        studio.choose(figure=name)
        if studio.preview.picture:
            drawn.append(name)
        else:
            assert studio.note.kind == "error"
            assert studio.note.texts
    assert {"Success by arm", "Arms of arm compared", "Success by step by arm"} <= set(drawn)


# ---------------------------------------------------------------------- pieces


def test_controls_refuse_what_is_no_option() -> None:
    controls = Controls()
    controls.fields = [
        {"name": "n", "label": "n", "kind": "checks", "options": [("x", "x"), ("y", "y")]}
    ]
    controls.values = {"n": []}
    controls.choose(n=["y"])
    assert controls.values == {"n": ["y"]}
    with pytest.raises(ValueError, match="no option 'z'"):
        controls.choose(n=["z"])


def test_clicks_that_no_button_has_are_ignored() -> None:
    note = Note()
    note._hear(note, {"click": "nothing"}, [])
    note._hear(note, "no dict", [])
    with pytest.raises(KeyError):
        note.click("nothing")


def test_a_long_list_is_sent_page_by_page() -> None:
    table = RunTable()
    frame = pl.DataFrame({"trajectory_id": [f"r{n}" for n in range(2_500)], "steps": range(2_500)})
    table.fill("", "", frame, ["steps", "no such column"])
    assert (len(table.rows), table.hidden, table.more) == (12, 2_488, "show 1,000 more of 2,488")
    table.click("more")
    table.click("more")
    assert (len(table.rows), table.more) == (2_012, "show all 2,500")


@pytest.mark.parametrize("file", sorted(STATIC.glob("*.js")), ids=lambda file: file.name)
def test_scripts_set_text_and_never_markup(file: Path) -> None:
    script = file.read_text()
    for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                      "new Function", "DOMParser", "srcdoc", "http://", "https://", "import ", "href"):  # fmt: skip
        assert dangerous not in script.replace('"http://www.w3.org/2000/svg"', ""), dangerous


@pytest.mark.parametrize("file", sorted(STATIC.glob("*.css")), ids=lambda file: file.name)
def test_styles_ask_for_nothing(file: Path) -> None:
    assert not re.search(r"url\(|@import|http", file.read_text())


def test_a_click_comes_with_what_was_set_just_before_it() -> None:
    """Values that are set while a kernel is busy reach it later than a click does."""
    controls = Controls(title="export")
    controls.values = {"name": "a", "formats": ["pdf", "png"]}
    met: list[Any] = []
    controls.on_click("export", lambda: met.append(controls.values))
    values = {"formats": ["pdf"], "unknown": 1}
    controls._hear(None, {"click": "export", "values": values}, None)
    controls._hear(None, {"click": "export", "values": "no values"}, None)
    assert met == [{"name": "a", "formats": ["pdf"]}] * 2
