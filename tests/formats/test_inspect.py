"""Inspect logs: own runs that differ only in what was sent back, real files, and every variant."""

from __future__ import annotations

import copy
import io
import json
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.context import ThinkingWitness
from loaders.formats import inspect
from loaders.formats._inspect_parts import usage_columns
from loaders.sources import Source

OWN = Path(__file__).parent.parent / "inspect_logs"
# fmt: off
SHOWN = [
    "seq", "step", "kind", "actor", "text", "thinking_state", "signature", "tool", "call_id",
    "call_seq", "arguments", "is_error", "error_type", "truncated", "started_at", "duration_s",
    "media",
]
CALLS = [
    "step", "seq", "agent", "model", "started_at", "ended_at", "input_tokens", "output_tokens",
    "stop_reason", "thinking", "thinking_available", "thinking_sent", "evidence", "history_edit",
    "context", "thinking_context", "toolset",
]
# fmt: on


# ---------------------------------------------------------------------- raw logs, read on their own


def members(path: Path) -> dict[str, Any]:
    """The JSON members of an archive, unpacked without the loader."""
    found: dict[str, Any] = {}
    with path.open("rb") as file, zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            file.seek(info.header_offset)
            name_length, extra_length = struct.unpack("<HH", file.read(30)[26:])
            file.seek(name_length + extra_length, io.SEEK_CUR)
            packed = file.read(info.compress_size)
            if info.compress_type == 93:
                if sys.version_info >= (3, 14):
                    from compression import zstd

                    data = zstd.decompress(packed)
                else:
                    import zstandard

                    data = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
            else:
                data = archive.read(info)
            found[info.filename] = json.loads(data)
    return found


def raw_samples(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".json":
        return json.loads(path.read_text())["samples"]
    return [m for name, m in members(path).items() if name.startswith("samples/")]


def in_place(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample as logs were before pools and attachments."""
    sample = copy.deepcopy(sample)
    attachments, pools = sample.pop("attachments"), sample.pop("events_data")
    for event in sample["events"]:
        if event["event"] == "model":
            refs = event.pop("input_refs")
            event["input"] = [m for a, b in refs for m in pools["messages"][a:b]]
            call = event["call"]
            refs = call.pop("call_refs")
            call["request"][call.pop("call_key")] = [
                m for a, b in refs for m in pools["calls"][a:b]
            ]

    def resolved(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("attachment://"):
            return attachments[value.removeprefix("attachment://")]
        if isinstance(value, list):
            return [resolved(item) for item in value]
        if isinstance(value, dict):
            return {key: resolved(item) for key, item in value.items()}
        return value

    return resolved(sample)


# ---------------------------------------------------------------------- logs written here


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def reply(text: str = "", think: str | None = None, *calls: str, **more: Any) -> dict[str, Any]:
    content: Any = [{"type": "text", "text": text}]
    if think is not None:
        content.insert(0, {"type": "reasoning", "reasoning": think})
    found = [{"id": c, "function": "look", "arguments": {"at": c}} for c in calls]
    return message("assistant", content, tool_calls=found or None, **more)


def model(
    shown: list[dict[str, Any]], output: dict[str, Any] | None, sent: Any = None, **more: Any
) -> dict[str, Any]:
    """A model event; ``sent`` is the list of messages in its raw request."""
    choices = [] if output is None else [{"message": output, "stop_reason": "stop"}]
    event = {
        "event": "model",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "model": "local/m",
        "input": shown,
        "tools": [],
        "config": {},
        "output": {"choices": choices},
        **more,
    }
    return event if sent is None else {**event, "call": {"request": {"messages": sent}}}


def sample(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "s", "epoch": 1, "messages": [], "events": list(events), **more}


def log_of(*samples: Any, **more: Any) -> dict[str, Any]:
    spec = {"run_id": "r", "task": "t", "model": "local/m", "packages": {"inspect_ai": "0.3.200"}}
    return {"version": 2, "status": "success", "eval": spec, **more, "samples": list(samples)}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def read(*samples: Any, **more: Any) -> Trajectories:
        path = tmp_path / "log.json"
        path.write_text(json.dumps(log_of(*samples, **more)))
        runs = loaders.load(path, format="inspect")
        assert_every_event_leads_back(runs)
        return runs

    return read


def assert_every_event_leads_back(runs: Trajectories) -> None:
    for row in runs.events.collect().iter_rows(named=True):
        runs.raw(row["trajectory_id"], row["seq"])


def steps(runs: Trajectories) -> list[dict[str, Any]]:
    return runs.steps.collect().to_dicts()


def told(runs: Trajectories, *columns: str) -> list[Any]:
    frame = runs.events.select(*(columns or ("kind", "text"))).collect()
    return [row[0] if len(columns) == 1 else row for row in frame.iter_rows()]


def ranges(row: dict[str, Any], name: str = "context") -> list[tuple[int, int]]:
    return [(r["start"], r["stop"]) for r in row[name]]


def metadata_of(runs: Trajectories) -> dict[str, Any]:
    return json.loads(runs.trajectories.collect()["metadata"][0])


def problems(runs: Trajectories) -> list[tuple[str, str]]:
    return runs.problems.select("severity", "reason").collect().rows()


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


# ---------------------------------------------------------------------- messages


def test_references_to_attachments_are_followed_everywhere(load: Any) -> None:
    def ref(name: str) -> str:
        return f"attachment://{name}"

    tools = [{"name": "look", "description": ref("d"), "parameters": {"type": "object"}}]
    output = reply(ref("t"), ref("r"), "c")
    output["tool_calls"][0]["arguments"] = {"deep": [ref("a")]}
    runs = load(
        sample(
            model([message("user", ref("u"))], output, [], tools=tools),
            model(
                [output, message("tool", ref("o"), tool_call_id="c")],
                None,
                [message("assistant", "", reasoning_content=ref("r"))],
                tools=tools,
            ),
            messages=[message("user", "the user's words")],
            attachments={
                "u": "the user's words",
                "t": "the reply",
                "r": "the thought",
                "a": "the argument",
                "o": "the output",
                "d": "the description",
            },
        )
    )
    assert told(runs) == [
        ("user", "the user's words"),
        ("thinking", "the thought"),
        ("message", "the reply"),
        ("tool_call", None),
        ("tool_result", "the output"),
    ]
    assert told(runs, "arguments")[3] == '{"deep":["the argument"]}'
    assert runs.tools.collect()["description"].to_list() == ["the description"]
    assert steps(runs)[1]["thinking_sent"] == 1
    assert problems(runs) == []


def test_a_reference_that_leads_nowhere_is_kept_and_counted(load: Any) -> None:
    runs = load(sample(model([message("user", "attachment://gone")], None), attachments={"x": "y"}))
    assert told(runs) == [("user", "attachment://gone")]
    ((severity, reason),) = problems(runs)
    assert severity == "warning"
    assert reason == "1 attachments are not in the log: attachment://gone"


def test_messages_that_the_pool_merged_are_told_as_often_as_they_were_said(load: Any) -> None:
    """Equal messages are one pool entry; the second in an input is another message."""
    pool = [message("user", "go on", id="a"), reply("yes", id="b")]
    event = model([], reply("yes", id="b2"))
    runs = load(
        sample(
            {**event, "input_refs": [[0, 1]], "output": {"choices": [{"message": pool[1]}]}},
            {**event, "input_refs": [[0, 2], [0, 1]]},
            messages=[pool[0], pool[1], message("user", "go on", id="c"), reply("yes", id="b2")],
            events_data={"messages": pool, "calls": []},
        )
    )
    assert told(runs, "kind") == ["user", "message", "user", "message"]
    assert ranges(steps(runs)[1]) == [(0, 3)]


def test_messages_that_no_event_told_are_not_lost(load: Any) -> None:
    asked = message("user", "q", id="u")
    runs = load(
        sample(
            model([asked], reply("a", None, "c", id="r")),
            messages=[
                asked,
                reply("a", None, "c", id="r"),
                message("tool", "late", tool_call_id="c"),
                message("user", "one more", id="v"),
                message("assistant", "own words", id="w"),
            ],
        )
    )
    assert told(runs) == [
        ("user", "q"),
        ("message", "a"),
        ("tool_call", None),
        ("tool_result", "late"),
        ("user", "one more"),
        ("message", "own words"),
    ]
    assert len(steps(runs)) == 1, "words that no call put out are no step"


def test_a_log_without_events_is_told_from_its_messages(load: Any) -> None:
    runs = load(
        sample(
            messages=[
                message("user", "example?", source="input"),
                message("assistant", "example!", source="input"),
                message("user", "go on"),
                reply("a", "hm", source="generate"),
                message("user", "go on"),
                reply("b", source="generate"),
            ],
            model_usage={"m": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}},
        )
    )
    assert told(runs, "kind") == [
        "user",
        "message",
        "user",
        "thinking",
        "message",
        "user",
        "message",
    ]
    assert [(row["seq"], row["context"], row["evidence"]) for row in steps(runs)] == [
        (3, None, "unknown"),
        (6, None, "unknown"),
    ]
    assert runs.trajectories.collect()["input_tokens"].item() == 7


def test_results_of_tools_that_only_their_events_show(load: Any) -> None:
    ran = {"event": "tool", "function": "look", "timestamp": "2026-01-01T00:00:00Z"}
    runs = load(
        sample(
            {**ran, "id": "0", "arguments": {"by": "solver"}, "result": "before any call"},
            model([message("user", "q")], reply("", None, "1", "2", "3")),
            {**ran, "id": "1", "result": "fine", "completed": "2026-01-01T00:00:02.5Z"},
            {**ran, "id": "2", "result": "", "error": {"type": "timeout", "message": "too slow"}},
            {**ran, "id": "3", "pending": True},
        )
    )
    events = runs.events.collect()
    assert events.row(0, named=True)["kind"] == "other"
    assert json.loads(events.row(0, named=True)["text"]) == {
        "function": "look",
        "arguments": {"by": "solver"},
        "result": "before any call",
    }
    results = events.filter(pl.col("kind") == "tool_result")
    assert results.select("text", "is_error", "error_type", "duration_s").rows() == [
        ("fine", False, None, 2.5),
        ("too slow", True, "timeout", None),
    ]
    assert runs.trajectories.collect()["unanswered_calls"].item() == 1


def test_an_error_reads_as_the_model_read_it_with_partial_output_behind(load: Any) -> None:
    failed = {"type": "timeout", "message": "too slow"}
    answers = [
        message("tool", "half", tool_call_id="1", error=failed),
        message("tool", "", tool_call_id="2", error=failed),
        message("tool", "", tool_call_id="3", tool_error="old style"),
    ]
    asked = [message("user", "q"), reply("", None, "1", "2", "3")]
    runs = load(sample(model(asked[:1], asked[1]), model([*asked, *answers], None)))
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results["text"].to_list() == ["too slow\nhalf", "too slow", "old style"]
    assert results["is_error"].to_list() == [True] * 3
    assert results["source_pos"].str.split("/").list.last().to_list() == [
        "2",
        "message",
        "tool_error",
    ]


def test_neighbours_that_were_sent_as_one_message_are_told_once(load: Any) -> None:
    runs = load(
        sample(
            model([message("user", "a\nb", id="ab")], reply("r", id="r")),
            messages=[
                message("user", "a", id="a"),
                message("user", "b", id="b"),
                reply("r", id="r"),
                message("user", "c"),
            ],
        )
    )
    assert told(runs) == [("user", "a\nb"), ("message", "r"), ("user", "c")]


def test_a_reply_stripped_under_a_new_id_is_still_this_reply(load: Any) -> None:
    asked = message("user", "q", id="u")
    runs = load(
        sample(
            model([asked], reply("same", "first", id="r1")),
            model(
                [asked, reply("same", id="x1"), message("user", "n")],
                reply("same", "second", id="r2"),
            ),
            model(
                [asked, reply("same", id="y1"), message("user", "n"), reply("same", id="y2")],
                None,
            ),
        )
    )
    assert told(runs, "kind").count("message") == 2
    assert ranges(steps(runs)[2]) == [(0, 6)]


def test_a_reply_with_calls_trimmed_or_merged_with_the_next_is_still_known(load: Any) -> None:
    ask, two = message("user", "q", id="u"), reply("x", "t", "c1", "c2", id="r1")
    result = message("tool", "o", tool_call_id="c2", id="o2")
    trimmed = reply("x (one call removed)", None, "c2", id="new1")
    last = reply("end", id="r2")
    merged = message("assistant", "x\nend", id="new2", metadata={"combined_from": ["r1", "r2"]})
    runs = load(
        sample(model([ask], two), model([ask, trimmed, result], last), model([ask, merged], None))
    )
    assert told(runs, "kind").count("message") == 2
    assert ranges(steps(runs)[1]) == [(0, 6)]
    assert ranges(steps(runs)[2]) == [(0, 5), (6, 7)]


def test_a_result_whose_images_were_moved_is_told_as_it_was_sent(load: Any) -> None:
    """Some providers take no images in tool results: Inspect sends them as a user message."""
    ask, look = message("user", "q", id="u"), reply("", None, "c", id="r")
    image = {"type": "image", "image": "data:image/png;base64,AA"}
    sent = message("tool", [{"type": "text", "text": "(image below)"}], tool_call_id="c")
    runs = load(
        sample(
            model([ask], look),
            model([ask, look, sent, message("user", [image])], reply("seen", id="e")),
            messages=[
                ask,
                look,
                message("tool", [image], tool_call_id="c", id="o"),
                reply("seen", id="e"),
            ],
        )
    )
    assert told(runs, "kind") == ["user", "tool_call", "tool_result", "user", "message"]
    assert told(runs, "text")[2] == "(image below)"
    assert told(runs, "media")[3] == ["image"]


def test_an_id_says_which_of_equal_messages_is_meant(load: Any) -> None:
    """After trimming, the first "go on" of an input is the second that was said."""
    said = [
        message("user", "go on", id="u1"),
        reply("yes", id="a1"),
        message("user", "go on", id="u2"),
        reply("yes", id="a2"),
    ]
    runs = load(sample(model(said[:1], said[1]), model(said[:3], said[3]), model(said[2:], None)))
    assert told(runs, "kind") == ["user", "message", "user", "message"]
    assert ranges(steps(runs)[2]) == [(2, 4)]


def test_parts_of_a_reply(load: Any) -> None:
    content = [
        {"type": "reasoning", "reasoning": "plain", "signature": "s1"},
        {"type": "reasoning", "reasoning": "", "summary": "short", "signature": "s2"},
        {"type": "reasoning", "reasoning": "", "signature": "s3"},
        {"type": "reasoning", "reasoning": "crypt", "redacted": True},
        {"type": "reasoning", "reasoning": "crypt2", "summary": "short2", "redacted": True},
        {"type": "reasoning", "reasoning": ""},
        {"type": "text", "text": "<think>tagged</think>said"},
        {"type": "text", "text": "no", "refusal": True},
        {
            "type": "tool_use",
            "tool_type": "web_search",
            "id": "w",
            "name": "search",
            "arguments": "{}",
            "result": "hits",
        },
        {"type": "image", "image": "data:image/png;base64,AA"},
        {"type": "data", "data": {"k": 1}},
    ]
    runs = load(sample(model([], {"role": "assistant", "content": content})))
    assert told(runs, "kind", "text", "thinking_state", "signature") == [
        ("thinking", "plain", "text", "s1"),
        ("thinking", "short", "summary", "s2"),
        ("thinking", None, "hidden", "s3"),
        ("thinking", None, "redacted", "crypt"),
        ("thinking", "short2", "summary", "crypt2"),
        ("thinking", "tagged", "tagged_in_text", None),
        ("message", "said", None, None),
        ("message", "no", None, None),
        ("tool_call", None, None, None),
        ("tool_result", "hits", None, None),
        ("message", None, None, None),
        ("other", '{"k":1}', None, None),
    ]
    assert told(runs, "error_type")[7] == "refusal"
    assert told(runs, "media")[10] == ["image"]
    assert steps(runs)[0]["thinking"] == "text"


def test_times_are_the_samples_or_those_of_its_events(load: Any) -> None:
    first = model([], reply("a"), timestamp="2026-01-01T10:00:00+00:00")
    last = model([], reply("b"), timestamp="2026-01-01T10:05:00+00:00")
    last["output"]["time"] = 2.5
    times = {"started_at": "2026-01-01T09:00:00Z", "completed_at": "2026-01-01T11:00:00Z"}
    begun = {"event": "sample_init", "timestamp": "2026-01-01T09:59:00+00:00"}
    runs = load(sample(begun, first, last), sample(begun, first, last, **times))
    rows = runs.trajectories.select("started_at", "ended_at").collect().rows()
    assert [[t.strftime("%H:%M") for t in row] for row in rows] == [
        ["09:59", "10:05"],
        ["09:00", "11:00"],
    ]
    ended = runs.steps.collect()["ended_at"].to_list()
    assert ended[0] is None
    assert ended[1].strftime("%M:%S.%f") == "05:02.500000"


def test_only_the_first_choice_is_the_reply(load: Any) -> None:
    event = model([], reply("first"))
    event["output"]["choices"].append({"message": reply("second")})
    assert told(load(sample(event))) == [("message", "first"), ("other", "second")]


# ---------------------------------------------------------------------- what was in the request


def one_thought(part: dict[str, Any], key: str, sent: list[Any]) -> dict[str, Any]:
    """A reply with this reasoning and a call, then a call whose request is given."""
    output = reply("", None, "c1")
    output["content"] = [{"type": "reasoning", **part}]
    second = model([message("user", "q"), output, message("tool", "o", tool_call_id="c1")], None)
    second["call"] = {"request": {"model": "m", key: sent}}
    return sample(model([message("user", "q")], output), second)


OPENROUTER = [{"type": "reasoning.text", "text": "deep thought", "signature": "sig"}]
WIRES: list[tuple[str, dict[str, Any], str, list[Any], int]] = [
    (
        "chat field",
        {"reasoning": "deep thought"},
        "messages",
        [{"role": "assistant", "content": "", "reasoning_content": "deep thought"}],
        1,
    ),
    (
        "chat without",
        {"reasoning": "deep thought"},
        "messages",
        [{"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]}],
        0,
    ),
    (
        "think tags",
        {"reasoning": "deep thought"},
        "messages",
        [{"role": "assistant", "content": "<think>\ndeep thought\n</think>"}],
        1,
    ),
    (
        "words of the user",
        {"reasoning": "deep thought"},
        "messages",
        [{"role": "user", "content": "deep thought"}, {"role": "assistant", "content": "a"}],
        0,
    ),
    (
        "Anthropic signature",
        {"reasoning": "", "signature": "signed"},
        "messages",
        [{"role": "assistant", "content": [{"type": "thinking", "signature": "signed"}]}],
        1,
    ),
    (
        "Responses items",
        {"reasoning": "crypt", "summary": "short", "redacted": True, "signature": "rs_1"},
        "input",
        [
            {"role": "user", "content": "q"},
            {"type": "reasoning", "encrypted_content": "crypt", "summary": []},
            {"type": "function_call", "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": "o"},
        ],
        1,
    ),
    (
        "Responses items without",
        {"reasoning": "crypt", "summary": "short", "redacted": True, "signature": "rs_1"},
        "input",
        [
            {"role": "user", "content": "q"},
            {"type": "function_call", "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": "crypt"},
        ],
        0,
    ),
    (
        "Google parts",
        {"reasoning": "a+b/c=", "redacted": True},
        "contents",
        [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [{"functionCall": {}, "thoughtSignature": "a-b_c="}]},
        ],
        1,
    ),
    (
        "OpenRouter details",
        {"reasoning": "shown", "signature": "reasoning-details://" + json.dumps(OPENROUTER)},
        "messages",
        [{"role": "assistant", "content": "", "reasoning_details": OPENROUTER}],
        1,
    ),
    (
        "more turns than in the input: matched by the call",
        {"reasoning": "deep thought"},
        "messages",
        [
            {"role": "assistant", "content": "prefix"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "so: deep thought", "tool_calls": [{"id": "c1"}]},
        ],
        1,
    ),
    (
        "one text for all: matched by think tags",
        {"reasoning": "deep thought"},
        "prompt",
        ["user: q\nassistant: <think>deep thought</think>"],
        1,
    ),
]


@pytest.mark.parametrize(("name", "part", "key", "sent", "found"), WIRES, ids=[w[0] for w in WIRES])
def test_thinking_is_found_in_the_requests_of_every_provider(
    load: Any, name: str, part: dict[str, Any], key: str, sent: list[Any], found: int
) -> None:
    row = steps(load(one_thought(part, key, sent)))[1]
    assert (row["thinking_available"], row["thinking_sent"]) == (1, found), name
    assert row["evidence"] == "request"
    assert row["history_edit"] == ("none" if found else "thinking_dropped")


@pytest.mark.parametrize("call", [None, {}, {"request": None}, {"request": {"model": "m"}}])
def test_without_the_request_nothing_is_said_of_thinking(load: Any, call: Any) -> None:
    first, second = one_thought({"reasoning": "t"}, "messages", [])["events"]
    runs = load(sample(first, {**second, "call": call}))
    row = steps(runs)[1]
    assert (row["thinking_sent"], row["evidence"], row["history_edit"]) == (None, "unknown", None)
    assert ranges(row) == [(0, 4)], "the context is known all the same"


def test_replies_that_follow_each_other_are_one_turn(load: Any) -> None:
    ask, one, two = message("user", "q", id="u"), reply("1", "first"), reply("2", "second")
    sent_one, sent_two = (
        {"role": "assistant", "reasoning_content": t} for t in ("first", "second")
    )
    note, other_note = message("user", "a"), message("user", "b")
    runs = load(
        sample(
            model([ask], one, [ask]),
            model([ask, one, note], two, [ask, sent_one, note]),
            model([ask, one, two, other_note], None, [ask, sent_one, sent_two, other_note]),
        )
    )
    assert [row["thinking_sent"] for row in steps(runs)] == [0, 1, 2]


def test_each_turn_of_a_long_run_is_searched_once(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = Counter[int]()
    find = ThinkingWitness.found_in

    def counted(self: ThinkingWitness, part: Any, among: Any = None) -> set[int]:
        searched["parts"] += len(part)
        return find(self, part, among)

    monkeypatch.setattr(ThinkingWitness, "found_in", counted)
    count = 60
    pool: list[Any] = [message("user", "q")]
    events: list[Any] = []
    for number in range(count):
        output = reply(f"r{number}", f"thought {number}", f"c{number}")
        event = model([], output, input_refs=[[0, len(pool)]])
        event["call"] = {"request": {}, "call_refs": [[0, len(pool)]], "call_key": "messages"}
        events.append(event)
        pool += [output, message("tool", f"o{number}", tool_call_id=f"c{number}")]
    runs = load(sample(*events, events_data={"messages": pool, "calls": pool}))
    assert runs.steps.collect()["thinking_sent"].to_list() == list(range(count))
    assert searched["parts"] == count - 1


# ---------------------------------------------------------------------- edited histories


def conversation(length: int) -> Iterator[dict[str, Any]]:
    yield message("user", "q", id="u")
    for number in range(length):
        yield reply(f"r{number}", f"t{number}", f"c{number}", id=f"a{number}")
        yield message("tool", f"o{number}", tool_call_id=f"c{number}", id=f"o{number}")


def test_a_trimmed_history_is_truncated(load: Any) -> None:
    said = list(conversation(3))
    runs = load(
        sample(
            *(model(said[:n], said[n], said[:n]) for n in (1, 3, 5)),
            model([said[0], *said[3:]], reply("end", id="e"), [said[0], *said[3:]]),
            model([said[0], *said[3:], message("user", "more")], None),
        )
    )
    assert [row["history_edit"] for row in steps(runs)] == [*["none"] * 3, "truncated", "truncated"]
    assert ranges(steps(runs)[3]) == [(0, 1), (5, 13)]
    assert steps(runs)[3]["thinking_sent"] == 2


def test_a_branch_and_another_conversation_are_no_truncation(load: Any) -> None:
    """What a branch gave up is not missed later, when the branch has replies of its own."""
    said = list(conversation(3))
    branch = [*said[:3], message("user", "instead"), reply("b", id="b")]
    runs = load(
        sample(
            *(model(said[:n], said[n], said[:n]) for n in (1, 3, 5)),
            model(branch[:4], branch[4], said[:3]),
            model([*branch, message("user", "one way")], None, [*said[:3], reply("b")]),
            model([*branch, message("user", "other way")], None, [*said[:3], reply("b")]),
            model([message("user", "new")], reply("n"), []),
        )
    )
    assert [row["history_edit"] for row in steps(runs)] == ["none"] * 7


def test_a_prompt_that_is_replaced_at_each_call_is_no_truncation(load: Any) -> None:
    said = list(conversation(3))
    inputs = [[message("system", f"{n} calls left"), *said[:n]] for n in (1, 3, 5)]
    runs = load(sample(*(model(shown, said[len(shown) - 1], shown) for shown in inputs)))
    assert [row["history_edit"] for row in steps(runs)] == ["none"] * 3
    assert told(runs, "kind").count("system") == 3
    assert all((0, 1) not in ranges(row) for row in steps(runs)[1:])


def compaction(kind: str) -> dict[str, Any]:
    return {"event": "compaction", "type": kind, "tokens_before": 900, "tokens_after": 80}


def test_a_summary_is_a_compaction_with_its_text(load: Any) -> None:
    said = list(conversation(2))
    summary = message("user", "what happened so far", metadata={"summary": True})
    after = [said[0], summary, reply("on", id="on"), message("user", "more")]
    runs = load(
        sample(
            *(model(said[:n], said[n], said[:n]) for n in (1, 3)),
            compaction("summary"),
            model(after[:2], after[2], after[:2]),
            model(after, None, after),
        )
    )
    assert [row["history_edit"] for row in steps(runs)] == [
        "none",
        "none",
        "compacted",
        "compacted",
    ]
    compacted = runs.events.filter(pl.col("kind") == "compaction").collect()
    assert compacted["text"].to_list() == ["what happened so far"]
    (facts,) = metadata_of(runs)["compactions"]
    assert (facts["seq"], facts["tokens_before"]) == (compacted["seq"].item(), 900)
    assert told(runs, "kind").count("user") == 2
    assert steps(runs)[2]["thinking_sent"] == 0


def test_a_result_that_compaction_replaced_is_no_second_result(load: Any) -> None:
    said = list(conversation(2))
    cleared = [said[0], said[1], message("tool", "(removed)", tool_call_id="c0"), *said[3:]]
    runs = load(
        sample(
            *(model(said[:n], said[n], said[:n]) for n in (1, 3)),
            compaction("edit"),
            model(cleared, None, cleared),
        )
    )
    kinds = Counter[str](told(runs, "kind"))
    assert kinds["tool_result"] == 2
    assert kinds["compaction"] == 1
    replaced = runs.events.filter(pl.col("kind") == "other").collect()
    assert replaced.select("text", "call_id").rows() == [("(removed)", "c0")]
    last = steps(runs)[2]
    assert last["history_edit"] == "compacted"
    original = runs.events.filter(pl.col("text") == "o0").collect()["seq"].item()
    assert not any(start <= original < stop for start, stop in ranges(last))


def test_trimming_by_compaction_is_truncation(load: Any) -> None:
    said = list(conversation(2))
    runs = load(
        sample(
            *(model(said[:n], said[n]) for n in (1, 3)),
            compaction("trim"),
            model([said[0], *said[3:]], None),
        )
    )
    assert [row["history_edit"] for row in steps(runs)] == [None, None, "truncated"]


def test_compactions_that_no_call_followed_are_told(load: Any) -> None:
    runs = load(sample(model([], reply("a")), compaction("trim"), compaction("edit")))
    facts = [(one["seq"], one["type"]) for one in metadata_of(runs)["compactions"]]
    assert told(runs, "kind")[1:] == ["compaction", "compaction"]
    assert facts == [(1, "trim"), (2, "edit")]


def test_a_compaction_belongs_to_the_task_in_which_it_happened(load: Any) -> None:
    said = list(conversation(2))
    cut = [said[0], *said[3:]]
    runs = load(
        sample(
            *(model(said[:n], said[n]) for n in (1, 3)),
            span("task-1", "task"),
            {**compaction("summary"), "span_id": "task-1"},
            model(cut, None),
            model(said, None, span_id="task-1"),
        )
    )
    assert steps(runs)[2]["history_edit"] == "truncated"


# ---------------------------------------------------------------------- agents and scorers


def span(name: str, kind: str, inside: str | None = None) -> dict[str, Any]:
    return {"event": "span_begin", "id": name, "name": name, "type": kind, "parent_id": inside}


def test_agents_are_named_and_do_not_lose_what_was_never_theirs(load: Any) -> None:
    ask, task = message("user", "q", id="u"), message("user", "sub", id="v")
    first = reply("", "parent thinks", "c", id="p")
    inner = reply("done", "child thinks", id="k")
    back = message("tool", "done", tool_call_id="c", id="o")
    runs = load(
        sample(
            span("solvers", "solvers"),
            span("main", "agent", "solvers"),
            model([ask], first, [ask], span_id="main"),
            span("tool", "tool", "main"),
            span("helper", "agent", "tool"),
            model([task], inner, [task], span_id="helper"),
            model([ask, first, back], reply("end", id="e"), [ask, first, back], span_id="main"),
        )
    )
    rows = steps(runs)
    assert [row["agent"] for row in rows] == ["main", "helper", "main"]
    assert [row["history_edit"] for row in rows] == ["none"] * 3
    assert [row["thinking_available"] for row in rows] == [0, 1, 2]
    assert [row["thinking_sent"] for row in rows] == [0, 0, 1]
    assert ranges(rows[1]) == [(3, 4)]
    assert ranges(rows[2]) == [(0, 3), (6, 7)]
    thinking = runs.events.filter(pl.col("kind") == "thinking").collect()
    assert thinking["actor"].to_list() == ["main", "helper"]


@pytest.mark.parametrize(
    "scoring",
    [
        [span("scorers", "scorers"), span("judge", "scorer", "scorers")],
        [{"event": "step", "action": "begin", "type": "scorer", "name": "judge"}],
    ],
)
def test_a_judge_is_no_step_of_the_agent(load: Any, scoring: list[Any]) -> None:
    judged = model([message("user", "grade this")], reply("GRADE: C"), span_id="judge")
    runs = load(sample(model([message("user", "q")], reply("a")), *scoring, judged))
    assert len(steps(runs)) == 1
    assert told(runs, "kind", "text", "actor")[-1] == ("other", "GRADE: C", "judge")
    assert "grade this" not in told(runs, "text")


def test_events_nested_in_tools_and_subtasks_are_told(load: Any) -> None:
    """Old logs put a subagent's events inside the tool's or subtask's event."""
    inner = model([message("user", "sub")], reply("inner"))
    ask = message("user", "q")
    runs = load(
        sample(
            model([ask], reply("", None, "c")),
            {"event": "tool", "id": "c", "function": "look", "result": "o", "events": [inner]},
            {"event": "subtask", "name": "planner", "events": [inner]},
        )
    )
    assert [row["agent"] for row in steps(runs)] == [None, None, "planner"]
    assert steps(runs)[1]["source_pos"] == "/samples/0/events/1/events/0"
    assert told(runs, "text").count("inner") == 2


def test_tools_on_offer_can_change(load: Any) -> None:
    def offer(*names: str) -> list[dict[str, Any]]:
        return [{"name": n, "description": "", "parameters": {}} for n in names]

    runs = load(
        sample(
            model([], reply("1"), tools=offer("a")),
            model([], reply("2"), tools=offer("a", "b")),
            model([], reply("3"), tools=offer("b", "a")),
            model([], reply("4"), tools=[]),
        )
    )
    sets = [row["toolset"] for row in steps(runs)]
    assert sets[1] == sets[2]
    assert len(set(sets)) == 3
    assert runs.tools.select(pl.len()).collect().item() == 3


# ---------------------------------------------------------------------- calls that went wrong


def test_a_call_that_failed_is_a_step_with_its_error(load: Any) -> None:
    ask = message("user", "q")
    empty = {"role": "assistant", "content": "", "id": "e"}
    runs = load(
        sample(
            model([ask], empty, error="TimeoutError('slow')", retries=2),
            model([ask], reply("a"), cache="read"),
            {"event": "error", "error": {"message": "ValueError('bad')"}},
            error={"message": "ValueError('bad')"},
        )
    )
    assert [(row["error"], row["stop_reason"]) for row in steps(runs)] == [
        ("TimeoutError('slow')", None),
        (None, "stop"),
    ]
    assert told(runs, "kind", "text", "error_type") == [
        ("user", "q", None),
        ("error", "TimeoutError('slow')", "TimeoutError"),
        ("message", "a", None),
        ("error", "ValueError('bad')", "ValueError"),
    ]
    run = runs.trajectories.collect().to_dicts()[0]
    assert (run["outcome"], run["end_reason"]) == ("error", "ValueError('bad')")
    metadata = json.loads(run["metadata"])
    assert (metadata["cache_reads"], metadata["retries"]) == (1, 2)


LIMIT = {"event": "sample_limit", "type": "token", "message": "Token limit reached"}


@pytest.mark.parametrize(
    ("more", "outcome", "reason"),
    [
        ({}, "unknown", None),
        ({"events": [LIMIT]}, "limit", "Token limit reached"),
        ({"limit": {"type": "message", "limit": 5}}, "limit", "message"),
        ({"limit": {"type": "operator", "reason": "stop"}}, "cancelled", "stop"),
        ({"error": {"message": "CancelledError()"}}, "cancelled", "CancelledError()"),
        ({"error": {"message": "boom"}}, "error", "boom"),
    ],
)
def test_how_a_sample_ended(load: Any, more: Any, outcome: str, reason: str | None) -> None:
    runs = load({**sample(messages=[message("user", "q")]), **more})
    row = runs.trajectories.collect().to_dicts()[0]
    assert (row["outcome"], row["end_reason"]) == (outcome, reason)


def test_a_cancelled_eval_cancels_what_was_not_scored(load: Any) -> None:
    said = [message("user", "q")]
    scored = sample(messages=said, scores={"s": {"value": "C"}})
    runs = load(sample(messages=said), scored, status="cancelled").trajectories.collect()
    assert runs["outcome"].to_list() == ["cancelled", "success"]


@pytest.mark.parametrize(
    ("value", "score", "success"),
    [
        ("C", 1.0, True),
        ("I", 0.0, False),
        ("P", 0.5, False),
        ("N", 0.0, False),
        (True, 1.0, True),
        (False, 0.0, False),
        (1, 1.0, True),
        (0.0, 0.0, False),
        (0.3, 0.3, None),
        (7, 7.0, None),
        ("no", 0.0, False),
        ("well", None, None),
        ({"a": 1, "b": "I"}, None, None),
        (None, None, None),
    ],
)
def test_scores_of_every_type(
    load: Any, value: Any, score: float | None, success: bool | None
) -> None:
    runs = load(sample(messages=[message("user", "q")], scores={"s": {"value": value}}))
    row = runs.trajectories.collect().to_dicts()[0]
    assert (row["score"], row["success"]) == (score, success)
    raw = row["scores"][0]["raw"]
    assert raw == (
        value if isinstance(value, str | None) else json.dumps(value, separators=(",", ":"))
    )


def test_parts_of_a_score_and_further_scores_follow_the_main_one(load: Any) -> None:
    scores = {"s": {"value": {"a": 1, "b": "I"}}, "t": {"value": [0.5, "C"]}}
    runs = load(sample(messages=[message("user", "q")], scores=scores))
    found = runs.trajectories.collect()["scores"].item()
    assert [(s["name"], s["value"]) for s in found] == [
        ("s", None),
        ("s/a", 1.0),
        ("s/b", 0.0),
        ("t", None),
        ("t/0", 0.5),
        ("t/1", 1.0),
    ]


def test_the_nameless_score_of_early_logs_gets_the_scorers_name(load: Any) -> None:
    record = sample(messages=[message("user", "q")], score={"value": "C"})
    runs = load(record, results={"scores": [{"name": "match"}]}).trajectories.collect()
    assert runs["scores"].item()[0]["name"] == "match"
    assert runs["success"].item() is True


@pytest.mark.parametrize(
    ("read", "write", "reasoning", "total", "expected"),
    [
        (60, 30, None, 200, (190, 10)),  # input leaves the cache out
        (60, 30, None, 110, (100, 10)),  # input includes it
        (None, None, None, 110, (100, 10)),
        (60, None, 7, 117, (100, 17)),  # output leaves reasoning out
        (60, None, 7, 177, (160, 17)),
        (60, 30, None, None, (190, 10)),  # nothing to check against: as documented
    ],
)
def test_tokens_are_added_up_as_the_total_says(
    read: int | None, write: int | None, reasoning: int | None, total: int | None, expected: Any
) -> None:
    columns = usage_columns(
        {
            "input_tokens": 100,
            "output_tokens": 10,
            "total_tokens": total,
            "input_tokens_cache_read": read,
            "input_tokens_cache_write": write,
            "reasoning_tokens": reasoning,
        }
    )
    assert (columns["input_tokens"], columns["output_tokens"]) == expected
    assert (columns["cached_tokens"], columns["reasoning_tokens"]) == (read, reasoning)


def test_costs_are_those_of_the_calls_and_not_of_the_judge(load: Any) -> None:
    def priced(cost: float, **more: Any) -> dict[str, Any]:
        event = model([], reply("a"), **more)
        event["output"]["usage"] = {"input_tokens": 1, "output_tokens": 1, "total_cost": cost}
        return event

    usage = {"m": {"input_tokens": 2, "output_tokens": 2, "total_cost": 0.75}}
    scoring = [span("s", "scorer"), priced(0.5, span_id="s")]
    runs = load(
        sample(priced(0.125), priced(0.125), *scoring, model_usage=usage),
        sample(messages=[message("user", "q")], model_usage=usage),
    )
    assert runs.trajectories.collect()["cost_usd"].to_list() == [0.25, 0.75]


def test_an_unknown_type_of_event_is_reported_once(load: Any) -> None:
    runs = load(sample({"event": "novel"}, {"event": "novel"}, messages=[message("user", "q")]))
    assert problems(runs) == [("warning", "events of type novel are unknown and not told")]


def test_sandbox_and_what_is_known_of_the_eval(load: Any) -> None:
    spec = log_of()["eval"] | {
        "sandbox": {"type": "docker", "config": "compose.yaml"},
        "task_args": {"hard": True},
        "model_args": {"api_key": "abc"},
        "tags": ["pilot"],
    }
    record = sample(
        messages=[message("user", "q")],
        metadata={"level": 3},
        error_retries=[{"message": "first try", "traceback": "..."}],
    )
    runs = load(record, {**record, "sandbox": ["local", None]}, eval=spec)
    rows = runs.trajectories.collect()
    assert rows["environment"].n_unique() == 2
    metadata = json.loads(rows["metadata"][0])
    assert metadata["task_args"] == {"hard": True}
    assert metadata["tags"] == ["pilot"]
    assert metadata["sample_metadata"] == {"level": 3}
    assert metadata["errors_before_retry"] == ["first try"]
    assert "abc" not in rows["metadata"][0]


def test_settings_scores_and_state_are_metadata(load: Any) -> None:
    spec = log_of()["eval"] | {
        "config": {"message_limit": 30, "epochs": 2},
        "dataset": {"name": "d", "samples": 2, "sample_ids": ["s", "t"]},
        "packages": {"inspect_ai": "0.3.200", "own_tasks": "1.2"},
    }
    plan = {"steps": [{"solver": "react", "params": {"attempts": 3}}], "config": {"top_p": 1}}
    score = {"value": "C", "answer": "a", "explanation": "it says so"}
    record = sample(
        model([message("user", "q")], reply("a"), tool_choice="any"),
        {"event": "score", "score": {"value": 0.5}, "intermediate": True},
        {"event": "score", "score": score},
        scores={"judge": score},
        store={"turns": 4},
        choices=["a", "b"],
        total_time=2.5,
        error={"message": "no", "traceback": "line 3"},
    )
    record["events"][0]["output"]["model"] = "m-2026"
    runs = load(record, eval=spec, plan=plan, tags=["x"])
    assert metadata_of(runs) == {
        "tags": ["x"],
        "run_id": "r",
        "config": {"message_limit": 30, "epochs": 2},
        "store": {"turns": 4},
        "choices": ["a", "b"],
        "total_time": 2.5,
        "dataset": {"name": "d", "samples": 2},
        "packages": {"own_tasks": "1.2"},
        "eval_status": "success",
        "solvers": ["react"],
        "plan": {"steps": plan["steps"]},
        "traceback": "line 3",
        "score_details": {"judge": {"answer": "a", "explanation": "it says so"}},
        "served_models": ["m-2026"],
        "tool_choices": ["any"],
        "intermediate_scores": [{"value": 0.5}],
    }


def test_what_people_and_solvers_put_in_is_told(load: Any) -> None:
    decided = {"event": "approval", "decision": "reject", "approver": "human", "uuid": "u"}
    runs = load(sample({"event": "info", "data": {"n": 1}}, decided))
    assert told(runs, "kind", "actor") == [("other", "info"), ("other", "approval")]
    texts = [json.loads(text) for text in told(runs, "text")]
    assert texts == [{"data": {"n": 1}}, {"decision": "reject", "approver": "human"}]


# ---------------------------------------------------------------------- archives


def write_archive(path: Path, entries: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            text = content if isinstance(content, str) else json.dumps(content)
            archive.writestr(name, text)
    return path


def entries_of(*samples: dict[str, Any]) -> dict[str, Any]:
    log = log_of()
    start = {key: log[key] for key in ("version", "eval")}
    return {
        "_journal/start.json": start,
        **{f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in samples},
        "summaries.json": [],
        "header.json": {key: value for key, value in log.items() if key != "samples"},
    }


def numbered(count: int) -> list[dict[str, Any]]:
    return [
        {**sample(model([message("user", f"q{n}")], reply(f"a{n}"))), "id": f"s/{n}#x"}
        for n in range(count)
    ]


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
