"""Archives of Inspect logs: whole, in chunks, cut short, and one inside another."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inspect_cases import (
    CALLS,
    OWN,
    SHOWN,
    assert_every_event_leads_back,
    entries_of,
    log_of,
    members,
    message,
    model,
    numbered,
    problems,
    raw_samples,
    reader,
    reply,
    sample,
    write_archive,
)

import loaders


@pytest.fixture
def load(tmp_path: Path) -> Any:
    return reader(tmp_path)


def test_a_log_without_header_is_read_from_its_journal(tmp_path: Path) -> None:
    entries = entries_of(*numbered(2))
    del entries["header.json"]
    runs = loaders.load(write_archive(tmp_path / "running.eval", entries))
    assert len(runs) == 2
    assert json.loads(runs.trajectories.collect()["metadata"][0])["eval_status"] == "started"
    ((severity, reason),) = problems(runs)
    assert severity == "warning"
    assert "still running, crashed" in reason
    assert_every_event_leads_back(runs)


def test_of_an_archive_cut_short_the_samples_before_the_cut_are_read(tmp_path: Path) -> None:
    samples = numbered(3)
    samples[2]["messages"] = [message("user", str(n)) for n in range(9999)]
    path = write_archive(tmp_path / "cut.eval", entries_of(*samples))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"s/2#x") + 9000])
    runs = loaders.load(path)
    assert runs.trajectories.collect()["task_id"].to_list() == ["s/0#x", "s/1#x"]
    reasons = [reason for severity, reason in problems(runs) if severity == "error"]
    assert len(reasons) == 2, "the archive and the sample in which it was cut"
    assert "zip" in reasons[0]


def test_one_bad_sample_does_not_stop_the_others(tmp_path: Path) -> None:
    entries = entries_of(*numbered(2))
    entries["samples/bad_epoch_1.json"] = '{"id": "bad", '
    entries["samples/list_epoch_1.json"] = []
    runs = loaders.load(write_archive(tmp_path / "log.eval", entries))
    assert len(runs) == 2
    rows = runs.problems.select("severity", "position").collect().rows()
    assert rows == [("error", "samples/bad_epoch_1.json"), ("error", "samples/list_epoch_1.json")]


def test_a_bad_sample_of_a_json_log_is_a_problem_with_its_place(load: Any) -> None:
    runs = load(sample(messages=[message("user", "q")]), "no sample")
    assert len(runs) == 1
    assert runs.problems.collect()["position"].to_list() == ["/samples/1"]


def test_each_equal_message_of_an_input_in_place_leads_to_its_own_record(tmp_path: Path) -> None:
    again = message("user", "go on")
    first, second = reply("one", None, id="a"), reply("two", None, id="b")
    whole = sample(model([again], first), model([again, first, again], second))
    path = write_archive(tmp_path / "log.eval", entries_of(whole))
    runs = loaders.load(path, format="inspect")
    users = runs.events.filter(pl.col("kind") == "user").collect()
    assert users["source_pos"].str.replace(r"^.*#", "").to_list() == [
        "/events/0/input/0/content",
        "/events/1/input/2/content",
    ]
    assert_every_event_leads_back(runs)


def test_tools_alike_but_for_what_they_refer_to_are_two_offers(tmp_path: Path) -> None:
    tools = [{"name": "look", "description": "attachment://d", "parameters": {"type": "object"}}]
    samples = [
        sample(model([], reply("x"), tools=tools), id=f"s{n}", attachments={"d": text})
        for n, text in enumerate(["look up", "look up", "look down"])
    ]
    runs = loaders.load(write_archive(tmp_path / "log.eval", entries_of(*samples)))
    offers = runs.trajectories.collect()["toolset"].to_list()
    assert offers[0] == offers[1] != offers[2]
    assert set(runs.tools.collect()["description"]) == {"look up", "look down"}


def test_credentials_of_the_header_are_taken_out_of_every_run(tmp_path: Path) -> None:
    entries = entries_of(*numbered(2))
    entries["header.json"]["eval"] |= {"solver_args": {"api_key": "x"}, "task_args": {"depth": 3}}
    runs = loaders.load(write_archive(tmp_path / "log.eval", entries))
    for text in runs.trajectories.collect()["metadata"]:
        facts = json.loads(text)
        assert facts["solver_args"] == {"api_key": "[redacted credential]"}
        assert facts["task_args"] == {"depth": 3}
    assert [reason for _, reason in problems(runs)] == [
        "1 credentials redacted in params or metadata"
    ] * 2


def test_a_sample_in_chunks_reads_like_a_whole_one(tmp_path: Path) -> None:
    (record,) = raw_samples(OWN / "reasoning_last.eval")
    header = members(OWN / "reasoning_last.eval")["header.json"]
    attachments = record["attachments"]
    text = json.dumps(record)
    for number, name in enumerate(attachments):
        text = text.replace(f"attachment://{name}", f"attachment://{number}")
    chunked = json.loads(text)
    events, pools, final = (chunked.pop(k) for k in ("events", "events_data", "messages"))
    pool = [*pools["messages"], *final]
    chunked.pop("attachments")
    chunked["message_refs"] = [[len(pools["messages"]), len(pool)]]
    folder = "samples/total_epoch_1"
    entries = {"header.json": header, f"{folder}/sample.json": chunked}
    for name, items, size in (
        ("events", events, 9),
        ("messages", pool, 4),
        ("calls", pools["calls"], 3),
        ("attachments", list(attachments.values()), 2),
    ):
        for start in reversed(range(0, len(items), size)):
            entries[f"{folder}/{name}/{start}.json"] = items[start : start + size]
    entries[f"{folder}/events/stats.json"] = {"not": "a chunk"}
    runs = loaders.load(write_archive(tmp_path / "chunks.eval", entries))
    whole = loaders.load(OWN / "reasoning_last.eval")
    assert runs.events.select(SHOWN).collect().equals(whole.events.select(SHOWN).collect())
    assert runs.steps.select(CALLS).collect().equals(whole.steps.select(CALLS).collect())
    assert_every_event_leads_back(runs)


def test_a_log_inside_another_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as outer:
        outer.write(OWN / "reasoning_all.eval", "runs/one.eval")
        outer.writestr("runs/two.json", json.dumps(log_of(*numbered(1))))
    runs = loaders.load(tmp_path / "all.zip")
    assert set(runs.trajectories.collect()["format"]) == {"inspect"}
    assert len(runs) == 2
    assert_every_event_leads_back(runs)
