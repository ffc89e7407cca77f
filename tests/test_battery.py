"""The battery over every folder of logs, and over logs that break its rules."""

from __future__ import annotations

import fnmatch
import types
from pathlib import Path
from typing import Any

import battery
import chatter
import polars as pl
import pytest

import loaders
from loaders import LoadError
from loaders.formats import _template


@pytest.mark.parametrize("folder", sorted(battery.folders().keys() & battery.UNREAD.keys()))
def test_what_is_declared_unread_has_nothing_to_load(folder: str) -> None:
    with pytest.raises(LoadError, match="Nothing could be read"):
        loaders.load(battery.folders()[folder])


@pytest.mark.parametrize("folder", sorted(battery.folders().keys() - battery.UNREAD.keys()))
def test_every_rule_holds(folder: str) -> None:
    broken = {(rule, where): message for rule, where, message in battery.broken_rules(folder)}
    places = {folder, *battery.case(folder).trajectories["format"]}
    declared = {(rule, where) for rule, where in battery.exceptions() if where in places}
    undeclared = [
        f"{where}: {rule}: {broken[rule, where]}" for rule, where in set(broken) - declared
    ]
    assert not undeclared, "\n".join(sorted(undeclared))
    needless = declared - set(broken)
    assert not needless, f"exceptions that are not needed any more: {needless}"


def test_exceptions_name_rules_and_have_reasons() -> None:
    names = {rule.__name__ for rule in (*battery.RULES, *battery.RULES_OF_A_FILE)}
    for (rule, where), reason in battery.exceptions().items():
        assert rule in names
        assert where
        assert len(reason) > 20


# ---------------------------------------------------------------------- the rules can fail


@pytest.fixture
def case(tmp_path: Path) -> battery.Case:
    for number in range(2):
        chatter.write(tmp_path / "logs" / f"{number}.jsonl", turns=3, tools=[{"name": "ls"}])
    runs = loaders.load(tmp_path / "logs", format=_template)
    tables = {name: getattr(runs, name).collect() for name in battery.TABLES}
    return battery.Case("made", tmp_path / "logs", runs, **tables)


LIT = pl.lit
SEQ = pl.col("seq")
BREAK: dict[str, tuple[str, dict[str, Any]]] = {
    "the_schema_is_exact": ("events", {"extra": LIT(1)}),
    "runs_are_numbered_through_and_ids_differ": ("trajectories", {"run": pl.col("run") + 1}),
    "seq_has_no_gaps": ("events", {"seq": SEQ + (SEQ > 3)}),
    "steps_never_go_back": ("events", {"step": 5 - SEQ}),
    "a_step_begins_with_its_first_event": ("steps", {"seq": SEQ + 1}),
    "results_answer_earlier_calls_or_are_counted_as_orphans": (
        "events",
        {"call_seq": pl.col("call_seq") - 1},
    ),
    "columns_of_calls_stand_on_calls_only": ("events", {"tool": LIT("ls")}),
    "thinking_has_a_state_and_nothing_else_has": ("events", {"thinking_state": LIT(None)}),
    "steps_say_what_their_thinking_events_say": (
        "steps",
        {"thinking_chars": pl.col("thinking_chars") + 1},
    ),
    "thinking_available_counts_earlier_blocks": ("steps", {"thinking_available": LIT(7)}),
    "contexts_lie_before_their_step": (
        "steps",
        {"context": LIT([{"start": 0, "stop": 99}], dtype=battery.STEPS["context"])},
    ),
    "what_was_sent_has_evidence": ("steps", {"thinking_sent": LIT(0)}),
    "tokens_of_a_run_are_sums_over_its_steps": (
        "trajectories",
        {"input_tokens": pl.col("input_tokens") + 1},
    ),
    "outcomes_agree_with_success": ("trajectories", {"success": LIT(value=False)}),
    "times_run_forward": ("events", {"duration_s": LIT(-1.0)}),
    "toolsets_are_in_the_table_of_tools": ("tools", {"toolset": LIT("other")}),
    "subagents_name_a_run_and_an_event": ("trajectories", {"parent_id": LIT("nobody")}),
    "every_row_says_where_it_stands": ("events", {"source_pos": LIT(None)}),
    "positions_lead_to_the_raw_record": ("events", {"text": LIT("never written")}),
    "positions_of_runs_and_steps_lead_somewhere": ("steps", {"source_pos": LIT("/nowhere")}),
    "credentials_are_gone": ("events", {"text": LIT("AKIA" + "A" * 16)}),
    "the_code_of_the_format_does_not_fail": (
        "problems",
        {"reason": LIT("KeyError: 'a' (made.py:7); what stands before it is kept")},
    ),
    "no_other_format_says_yes": ("", {}),
    "ids_stay_when_the_folder_moves": ("", {}),
    "what_is_saved_comes_back": ("steps", {"seq": SEQ + 1}),
    "no_value_is_lost": ("", {}),
}


@pytest.mark.parametrize("rule", battery.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_holds_where_nothing_is_wrong_and_fails_where_something_is(
    rule: Any, case: battery.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, change = BREAK[rule.__name__]
    if rule is battery.no_other_format_says_yes:
        rule(case)
        both = dict.fromkeys(("a", "b"), battery.formats()["agentdojo"])
        monkeypatch.setattr(battery, "formats", lambda: both)
        monkeypatch.setattr(battery, "_says", lambda *given: True)
    elif rule is battery.ids_stay_when_the_folder_moves:
        load = loaders.load
        monkeypatch.setattr(loaders, "load", lambda path, **more: load(path, _template, **more))
        rule(case)
        chatter.write(case.path / "more.jsonl")
    elif rule is battery.no_value_is_lost:
        account = loaders.coverage
        monkeypatch.setattr(
            loaders, "coverage", lambda path, **more: account(path, _template, **more)
        )
        rule(case)
        chatter.write(case.path / "more.jsonl", mood="a value that nobody reads")
    else:
        rule(case)
        frame = getattr(case, table)
        if frame.is_empty():
            frame = pl.DataFrame([{"severity": "error"}], schema=frame.schema)
        case = battery.replace(case, **{table: frame.with_columns(**change)})
    with pytest.raises((AssertionError, loaders.UnreadableRecord)):
        rule(case)


def small_file(path: Path, module: Any, monkeypatch: pytest.MonkeyPatch) -> battery.File:
    """A log in the example format, which the battery reads with the given module."""
    chatter.write(path, turns=6)
    load = loaders.load
    monkeypatch.setattr(
        loaders, "load", lambda where, **more: load(where, **{**more, "format": module})
    )
    return battery.File("made", path, load(path, format=_template).events.collect())


@pytest.mark.parametrize("rule", battery.RULES_OF_A_FILE, ids=lambda rule: rule.__name__)
def test_the_rules_of_a_file_hold_for_the_template(
    rule: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule(small_file(tmp_path / "r.jsonl", _template, monkeypatch))


def careless(read: Any) -> Any:
    module = types.ModuleType("careless")
    module.__dict__.update(TITLE="careless", sniff=lambda head: True, read=read)
    return module


def test_a_careless_format_fails_the_rules_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def packed_otherwise(source: Any, out: Any) -> None:
        _template.read(source, out)
        if source.path.read_bytes()[:2] == b"\x1f\x8b":
            out.trajectory(pos="")

    def hasty(source: Any, out: Any) -> None:
        _template.read(source, out)
        for _, record in source.json_lines():
            len(record.get("says", ""))

    path = tmp_path / "r.jsonl"
    for read, rule in [
        (hasty, battery.values_of_other_types_make_no_trouble),
        (packed_otherwise, battery.the_same_file_reads_alike_when_packed),
    ]:
        with monkeypatch.context() as patched:
            file = small_file(path, careless(read), patched)
            with pytest.raises(AssertionError):
                rule(file)
    with monkeypatch.context() as patched:
        file = small_file(path, careless(silent), patched)
        with pytest.raises(AssertionError, match="no problem"):
            battery.a_file_cut_short_gives_what_stands_before(file)


def silent(source: Any, out: Any) -> None:
    _template.read(source, out)
    source.take_problems()


NOT_A_LOG = {
    "*README.md": "says where the logs come from",
    "*/LICENSE*": "a licence",
    "*/agentdojo/docs/results-table.html": "the published table of results",
    "*/bfcl/*/score/data_multi_turn.csv": "the published table of scores",
    "*/google_adk/*.test.json": "an evaluation case: what is expected, and no run",
    "*/opencode/*/migration": "the number of the store's layout",
    "*/antigravity/small.md": "a document that an agent wrote",
    "*/terminal_bench/*/commands.txt": "keys that were sent to the terminal; the trial's results are read",
    "*/terminal_bench/*/panes/*.txt": "pictures of the terminal; the trial's results are read",
    "*/terminal_bench/*/sessions/*.log": "what the terminal printed; the trial's results are read",
    "*/whowhen/assets/*.png": "a figure",
}
"""Files beside real logs that are none, and why."""


def test_no_file_of_the_real_logs_is_unexplained(real_logs: Path) -> None:
    problems = loaders.load(real_logs, progress=False).problems.collect()
    assert problems.filter(severity="error").is_empty()
    skipped = problems.filter(pl.col("severity") == "skipped", pl.col("position").is_null())[
        "source"
    ].to_list()
    assert len(skipped) > 40
    unexplained = [
        name for name in skipped if not any(fnmatch.fnmatch(name, known) for known in NOT_A_LOG)
    ]
    assert unexplained == []
    needless = [k for k in NOT_A_LOG if not any(fnmatch.fnmatch(name, k) for name in skipped)]
    assert needless == []
