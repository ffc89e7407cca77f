"""Inspect logs: own runs that differ only in what was sent back, and real files."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inspect_cases import (
    CALLS,
    OWN,
    SHOWN,
    assert_every_event_leads_back,
    in_place,
    members,
    model,
    problems,
    ranges,
    raw_samples,
    reader,
    steps,
    told,
)

import loaders
from loaders.formats import inspect
from loaders.sources import Source


@pytest.fixture
def load(tmp_path: Path) -> Any:
    return reader(tmp_path)


# ---------------------------------------------------------------------- sent back, or not


@pytest.mark.parametrize(
    ("history", "sent", "edits"),
    [
        ("all", [0, 1, 2, 3], ["none"] * 4),
        ("none", [0, 0, 0, 0], ["none", *["thinking_dropped"] * 3]),
        ("last", [0, 1, 1, 1], ["none", "none", *["thinking_dropped"] * 2]),
    ],
)
def test_what_was_sent_back_is_read_from_the_requests(
    history: str, sent: list[int], edits: list[str]
) -> None:
    calls = loaders.load(OWN / f"reasoning_{history}.eval").steps.collect()
    assert calls["thinking_available"].to_list() == [0, 1, 2, 3]
    assert calls["thinking_sent"].to_list() == sent
    assert calls["history_edit"].to_list() == edits
    assert calls["evidence"].to_list() == ["request"] * 4


def test_the_messages_of_these_logs_are_the_same() -> None:
    """So that nothing but the requests can have told the runs apart."""
    transcripts = set[str]()
    for path in OWN.glob("*.eval"):
        (record,) = raw_samples(path)
        shown = [{k: v for k, v in m.items() if k != "id"} for m in record["messages"]]
        transcripts.add(json.dumps(shown))
    assert len(list(OWN.glob("*.eval"))) == 3
    assert len(transcripts) == 1


def test_equal_thoughts_are_told_apart_by_their_place_in_the_request() -> None:
    """Calls 1 and 2 think the same words; call 3 was sent those of call 2 alone."""
    runs = loaders.load(OWN / "reasoning_last.eval")
    thoughts = runs.events.filter(pl.col("kind") == "thinking").collect()
    assert thoughts["text"][1] == thoughts["text"][2]
    latest = thoughts["seq"][2]
    assert ranges(steps(runs)[3], "thinking_context") == [(latest, latest + 1)]


@pytest.mark.parametrize("history", ["all", "none", "last"])
def test_a_log_without_pools_and_attachments_reads_the_same(tmp_path: Path, history: str) -> None:
    source = OWN / f"reasoning_{history}.eval"
    (record,) = raw_samples(source)
    assert record["attachments"], "a long thought is stored apart"
    path = tmp_path / "log.json"
    path.write_text(json.dumps({**members(source)["header.json"], "samples": [in_place(record)]}))
    pooled, plain = loaders.load(source), loaders.load(path)
    assert pooled.events.select(SHOWN).collect().equals(plain.events.select(SHOWN).collect())
    assert pooled.steps.select(CALLS).collect().equals(plain.steps.select(CALLS).collect())


def test_what_the_own_log_says_of_run_calls_tools_and_tokens() -> None:
    source = OWN / "reasoning_all.eval"
    (record,) = raw_samples(source)
    runs = loaders.load(source)
    run = runs.trajectories.collect().to_dicts()[0]
    (usage,) = record["model_usage"].values()
    cached = usage["input_tokens_cache_read"]
    assert cached > 0
    assert run["input_tokens"] == usage["input_tokens"] + cached
    assert run["cached_tokens"] == cached
    assert run["output_tokens"] == usage["output_tokens"]
    assert run["reasoning_tokens"] == usage["reasoning_tokens"]
    assert run["native_id"] == record["uuid"]
    assert (run["task_id"], run["trial"], run["benchmark"]) == ("total", "1", "shelf")
    assert (run["framework"], run["framework_version"]) == ("inspect_ai", "0.3.285")
    assert (run["provider"], run["model"]) == ("openai-api", "openai-api/local/thinker")
    assert (run["outcome"], run["success"], run["score"]) == ("success", True, 1.0)
    assert run["arm"] is None
    assert json.loads(run["params"])["reasoning_history"] == "all"
    assert json.loads(run["metadata"])["eval_metadata"] == {"reasoning_history": "all"}
    assert runs.tools.select("name").collect()["name"].to_list() == ["count"]
    assert [ranges(row)[0][0] for row in steps(runs)] == [0] * 4
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results["call_seq"].null_count() == 0
    assert results["duration_s"].min() > 0  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    assert_every_event_leads_back(runs)


# ---------------------------------------------------------------------- real files


@pytest.fixture(scope="module")
def folder(real_logs: Path) -> Path:
    return real_logs / "inspect"


def test_every_real_log_is_recognised_and_no_other(real_logs: Path) -> None:
    said_yes = {
        path.relative_to(real_logs).parts[0]
        for path in real_logs.rglob("*")
        if path.is_file() and inspect.sniff(Source(path).head)
    }
    assert said_yes == {"inspect"}
    files = [p for p in (real_logs / "inspect").rglob("*") if p.suffix in (".json", ".eval")]
    assert len(files) == 6
    assert all(inspect.sniff(Source(path).head) for path in files)


@pytest.mark.parametrize(
    "name",
    [
        "2025-05-12T20-27-36-04-00_browser.json",
        "log_message_deduplication.eval",
        "log_streaming.eval",
        "log_images_tc.json",
        "derived/browser_zstd_inspect0.3.285.eval",
    ],
)
def test_every_message_call_and_result_of_real_logs_is_there_once(folder: Path, name: str) -> None:
    runs = loaders.load(folder / name)
    records = raw_samples(folder / name)
    raw = Counter[str]()
    for record in records:
        for said in record["messages"]:
            calls = said.get("tool_calls") or []
            kind = {"tool": "tool_result", "assistant": "message"}.get(said["role"], said["role"])
            raw[kind] += kind != "message" or bool(said["content"])
            raw["tool_call"] += len(calls)
    kinds = Counter[str](told(runs, "kind"))
    assert kinds == +raw
    assert runs.steps.select(pl.len()).collect().item() == sum(
        said["role"] == "assistant" for record in records for said in record["messages"]
    )
    for row in steps(runs):  # each of these is one conversation that only grows
        assert ranges(row) == [(0, row["seq"])]
    totals = runs.trajectories.select(pl.col("unanswered_calls", "orphan_results").sum())
    assert totals.collect().row(0) == (0, 0)
    assert problems(runs) == []
    assert_every_event_leads_back(runs)


def test_json_and_its_zstd_archive_give_the_same_events(folder: Path) -> None:
    one = loaders.load(folder / "2025-05-12T20-27-36-04-00_browser.json")
    other = loaders.load(folder / "derived" / "browser_zstd_inspect0.3.285.eval")
    assert one.events.select(SHOWN).collect().equals(other.events.select(SHOWN).collect())
    assert one.steps.select(CALLS).collect().equals(other.steps.select(CALLS).collect())


def test_tokens_of_the_browser_log_include_cached_ones_once(folder: Path) -> None:
    """This version of Inspect counted cached tokens inside ``input_tokens``: the totals say so."""
    path = folder / "2025-05-12T20-27-36-04-00_browser.json"
    usages = [
        event["output"]["usage"]
        for record in raw_samples(path)
        for event in record["events"]
        if event["event"] == "model"
    ]
    frame = loaders.load(path).steps.collect()
    assert frame["input_tokens"].to_list() == [
        u["total_tokens"] - u["output_tokens"] for u in usages
    ]
    assert frame["cached_tokens"].sum() == sum(u["input_tokens_cache_read"] for u in usages) == 9088
    assert frame["input_tokens"].sum() == 15235


def test_every_type_of_tool_error_is_kept(folder: Path) -> None:
    path = folder / "log_tool_call_error.json"
    (record,) = raw_samples(path)
    runs = loaders.load(path)
    results = runs.events.collect()
    assert results["error_type"].to_list() == [m["error"]["type"] for m in record["messages"]]
    assert results["is_error"].all()
    run = runs.trajectories.collect()
    assert run["orphan_results"].item() == len(record["messages"]) == 11
    assert run["trial"].item() == "4"


def test_letters_become_scores(folder: Path) -> None:
    path = folder / "log_streaming.eval"
    letters = {
        (str(r["id"]), str(r["epoch"])): r["scores"]["match"]["value"] for r in raw_samples(path)
    }
    runs = loaders.load(path).trajectories.collect()
    for row in runs.iter_rows(named=True):
        letter = letters[row["task_id"], row["trial"]]
        assert row["success"] == (letter == "C")
        assert row["score"] == float(letter == "C")
        assert row["scores"] == [{"name": "match", "value": row["score"], "raw": letter}]
    assert Counter(letters.values()) == {"C": 3, "I": 1}


def test_images_are_media_also_under_the_old_kind_of_reference(folder: Path) -> None:
    runs = loaders.load(folder / "log_images_tc.json")
    user = runs.events.filter(pl.col("kind") == "user").collect()
    assert user["media"].to_list() == [["image"]]
    assert (user["source_pos"].str.starts_with("/samples/0/transcript/events/")).all()


# ---------------------------------------------------------------------- hostile input


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths_of(item, (*path, key))


JUNK = [None, True, -1, 10**30, "x", [], {}, [None], {"a": [1]}, [[5, 1], [-3, 10**12]], [["x"]]]


def test_no_wrong_type_anywhere_stops_a_sample() -> None:
    (pooled,) = raw_samples(OWN / "reasoning_last.eval")
    plain = in_place(pooled)
    places = [(whole, path) for whole in (pooled, plain) for path in paths_of(whole)]
    broken: list[str] = []
    for number, (whole, path) in enumerate(places[::2]):
        changed = copy.deepcopy(whole)
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = JUNK[number % len(JUNK)]
        broken.extend(reasons_of_crash(changed))
    assert broken == []


def reasons_of_crash(record: Any) -> list[str]:
    from loaders.builder import Builder
    from loaders.formats._inspect_sample import Sample
    from loaders.formats._inspect_transcript import Transcript

    builder = Builder()
    source = Source(OWN / "make_logs.py")
    builder.begin(source, "inspect", "always")
    with builder.record("here"):
        run = builder.trajectory(pos="")
        Transcript(run, Sample(record, "")).tell()
    builder.end()
    return [row[3] for row in builder.problem_rows if ".py:" in row[3]]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"id": [], "epoch": {}, "events": {}, "messages": 3, "scores": [], "limit": 1, "error": []},
        {"events": [None, 1, "x", [], {"event": ["model"]}, {"event": "model"}]},
        {"events": [model([{"role": ["user"]}], {"role": 3, "content": [1, None, {"type": {}}]})]},
    ],
)
def test_samples_that_hold_anything(load: Any, record: Any) -> None:
    runs = load(record)
    assert len(runs) == 1
    assert not any(".py:" in reason for _, reason in problems(runs))
