"""Cursor's transcripts, stores and streams against the raw files, and variants written here."""

from __future__ import annotations

import gzip
import json
import sqlite3
import time
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import LoadError, Trajectories
from loaders.formats import cursor
from loaders.sources import Source

TRANSCRIPTS = (
    *("large.jsonl", "schema_drift.jsonl", "small.jsonl"),
    *("subagent/parent.jsonl", "subagent/subagents/child.jsonl"),
)
CALLS, RESULTS = ("tool_use", "tool_call"), ("tool_result", "tool-result")


@pytest.fixture
def folder(real_logs: Path) -> Path:
    return real_logs / "other_cli" / "cursor"


def raw_blocks(path: Path, role: str, *kinds: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    said = [line["message"]["content"] for line in lines if line.get("role") == role]
    return [block for content in said for block in content if block["type"] in kinds]


def said(role: str, *blocks: Any, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    return {"role": role, "message": {"content": content}, **more}


def load(path: Path, *lines: Any, name: str = "t.jsonl") -> Trajectories:
    file = path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return loaders.load(path, format="cursor")


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


def reasons(runs: Trajectories) -> list[str]:
    return runs.problems.collect()["reason"].to_list()


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_all_blocks_of_a_transcript_are_told(folder: Path, name: str) -> None:
    path = folder / name
    runs = loaders.load(path)
    assert reasons(runs) == []
    for role, kind in (("user", "user"), ("assistant", "message")):
        texts = [block["text"] for block in raw_blocks(path, role, "text")]
        assert events(runs, kind)["text"].to_list() == texts
    thoughts = [block["thinking"] for block in raw_blocks(path, "assistant", "thinking")]
    assert events(runs, "thinking")["text"].to_list() == thoughts
    calls = raw_blocks(path, "assistant", *CALLS)
    assert events(runs, "tool_call")["tool"].to_list() == [block["name"] for block in calls]
    arguments = [json.loads(given) for given in events(runs, "tool_call")["arguments"]]
    assert arguments == [block["input"] for block in calls]
    results = raw_blocks(path, "user", *RESULTS)
    answers = events(runs, "tool_result")
    texts = [block["content"][0]["text"] for block in results]
    assert answers["text"].to_list() == texts
    assert answers["call_seq"].null_count() == 0  # without ids in the calls
    replies = path.read_text().count('"role":"assistant"')
    assert len(steps(runs, "step")) == replies


def test_what_a_later_version_adds_is_told(folder: Path) -> None:
    runs = loaders.load(folder / "schema_drift.jsonl")
    block = raw_blocks(folder / "schema_drift.jsonl", "assistant", "custom_block")[0]
    told = events(runs, "other").filter(actor="custom_block")
    assert told["text"].to_list() == [block["text"]]
    assert events(runs, "tool_result")["is_error"].to_list() == [False]
    assert steps(runs, "model") == ["cursor-auto", None]
    extra = "".join(events(runs, "other").filter(actor="line")["text"])
    assert all(word in extra for word in ("workspaceId", "branchId", "annotations"))


def test_the_end_of_a_turn_and_the_subagent(folder: Path) -> None:
    run = row(loaders.load(folder / "small.jsonl"))
    assert (run["outcome"], run["end_reason"], run["unanswered_calls"]) == ("unknown", "success", 1)
    runs = loaders.load(folder / "subagent")
    frame = runs.trajectories.collect()
    assert frame["native_id"].to_list() == ["parent", "child"]
    assert frame["parent_id"].to_list() == [None, frame["trajectory_id"][0]]
    assert frame["parent_seq"][1] == events(runs, "tool_call")["seq"][0]
    assert reasons(runs) == []


def test_a_store_without_a_conversation_says_so(folder: Path) -> None:
    runs = loaders.load(folder)
    assert runs.trajectories.collect().height == len(TRANSCRIPTS)
    problem = runs.problems.collect().row(0, named=True)
    assert "holds no conversation" in problem["reason"]
    assert problem["source"].endswith("test-store.db")
    with pytest.raises(LoadError, match="no conversation"):
        loaders.load(folder / "test-store.db")


def test_places_lead_back_and_nothing_is_lost(folder: Path) -> None:
    runs = loaders.load(folder / "large.jsonl")
    for told in events(runs, "tool_call").to_dicts():
        assert runs.raw(told["trajectory_id"], told["seq"])["name"] == told["tool"]
    covered = loaders.coverage([folder / name for name in TRANSCRIPTS], cursor, progress=False)
    lost = covered.lost.filter(~pl.col("within").str.contains("type=text"))
    assert lost.is_empty()


# ---------------------------------------------------------------------- transcripts written here


def test_thinking_of_all_states(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        said("assistant", {"type": "thinking", "thinking": "hm", "signature": "s"}),
        said("assistant", {"type": "thinking", "thinking": "", "signature": "t"}),
        *(said("assistant", {"type": "redacted_thinking", "data": "d"}), said("assistant", "x")),
    )
    told = events(runs, "thinking").select("thinking_state", "text", "signature").rows()
    assert told == [("text", "hm", "s"), ("hidden", None, "t"), ("redacted", None, "d")]
    assert steps(runs, "thinking") == ["text", "hidden", "redacted", "absent"]


def test_a_content_that_is_text(tmp_path: Path) -> None:
    lines = [{"role": role, "message": {"content": role}} for role in ("user", "assistant")]
    runs = load(tmp_path, *lines)
    assert events(runs)["text"].to_list() == ["user", "assistant"]
    assert runs.raw(row(runs)["trajectory_id"], 1) == "assistant"


def test_results_are_linked_by_id_by_name_and_by_order(tmp_path: Path) -> None:
    def call(name: str, **more: Any) -> dict[str, Any]:
        return {"type": "tool_use", "name": name, "input": {}, **more}

    def result(text: Any, **more: Any) -> dict[str, Any]:
        return {"type": "tool_result", "content": text, **more}

    image = [{"type": "text", "text": "i"}, {"type": "image", "data": "x"}]
    runs = load(
        tmp_path,
        said("assistant", call("A"), call("B", id="b1"), call("C"), call("D")),
        said("user", result("of b", tool_use_id="b1", is_error=True), result("of c", name="C")),
        said("user", result(image), metadata={"toolResultStatus": "error"}),
    )
    told = events(runs, "tool_result")
    assert told["call_seq"].to_list() == [1, 2, 0]
    assert told["is_error"].to_list() == [True, None, True]
    assert told["media"].to_list() == [None, None, ["image"]]
    assert row(runs)["unanswered_calls"] == 1


def test_subagents_are_found_by_their_prompts(tmp_path: Path) -> None:
    prompts = {"one": "<user_query>\nlook\n</user_query>", "two": "write"}
    for name, prompt in prompts.items():
        load(tmp_path, said("user", prompt), name=f"p/subagents/{name}.jsonl")
    starts = [
        {"type": "tool_use", "name": "Task", "input": {"prompt": p}} for p in ("write", "look")
    ]
    runs = load(tmp_path, said("user", "go"), said("assistant", *starts), name="p/p.jsonl")
    seqs = dict(runs.trajectories.collect().select("native_id", "parent_seq").rows())
    assert seqs == {"p": None, "one": 2, "two": 1}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for file in sorted((tmp_path / "p").rglob("*.jsonl")):
            packed.write(file, file.relative_to(tmp_path).as_posix())
    inside = loaders.load(tmp_path / "all.zip").trajectories.collect()
    assert dict(inside.select("native_id", "parent_seq").rows()) == seqs


def test_hostile_lines_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(
            said("user", "go"),
            "[1]",
            '{"role":',
            {"role": 3},
            {"type": "turn_ended", "status": [1]},
        ),
        *({"role": "assistant", "message": {"content": 4}}, said("assistant", 5, [], {"type": []})),
        said("assistant", {"type": "tool_use", "input": {"prompt": [1]}}, {"text": [1]}, model=[2]),
        *(said("user", {"type": "tool_result", "content": {"a": [1]}}, metadata=[1]),),
        said("assistant", "end"),
    )
    assert events(runs, "message")["text"].to_list() == ["end"]
    blocks = {"L6/message/content", "L7/message/content/0", "L7/message/content/1"}
    assert set(runs.problems.collect()["position"]) == {"L2", "L3", "L4", *blocks}
    assert events(runs, "tool_result")["text"].to_list() == ['{"a":[1]}']


def test_time_is_linear(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        call = {"type": "tool_use", "name": "A", "input": {}}
        lines = [said("assistant", call) for _ in range(size)]
        lines += [said("user", {"type": "tool_result", "content": "x"}) for _ in range(size)]
        begun = time.process_time()
        load(tmp_path, *lines)
        return time.process_time() - begun

    seconds(200)
    assert seconds(8_000) < 16 * seconds(1_000) + 1


# ---------------------------------------------------------------------- the store


def options(**kept: Any) -> dict[str, Any]:
    return {"providerOptions": {"cursor": kept}}


def answer(name: str, result: Any, **more: Any) -> dict[str, Any]:
    part = {"type": "tool-result", "toolCallId": name, "toolName": "Shell", "result": result}
    return {"role": "tool", "content": [{**part, **more}]}


MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You help."},
    {"role": "user", "content": [{"type": "text", "text": "<user_info>os</user_info>"}]},
    {"role": "user", "content": [{"type": "text", "text": "go"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "reasoning", "text": "hm", "signature": "s", **options(modelName="m-1")},
            {"type": "redacted-reasoning", "data": "locked"},
            {"type": "text", "text": "Looking."},
            {"type": "tool-call", "toolCallId": "t1", "toolName": "Shell", "args": {"c": "ls"}},
        ],
    },
    {**answer("t1", "gone"), **options(highLevelToolCallResult={"isError": True})},
    {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
]
META = {
    "agentId": "a-1",
    "name": "Chat",
    "createdAt": 1_775_522_590_321,
    "lastUsedModel": "m-1",
}


def store(
    path: Path, messages: list[Any], *, extra: list[Any] = (), root: bytes | None = None
) -> Path:
    """A store whose latest state lists the messages, and not the extra ones."""
    path.unlink(missing_ok=True)
    names = [f"{number:064x}" for number in range(1, len(messages) + 1)]
    listed = b"".join(b"\x0a\x20" + bytes.fromhex(name) for name in names)
    state = listed + b"\x4a\x0bfile:///w/x" + b"\x10\x07" if root is None else root
    blobs = [*zip(names, messages, strict=True)]
    blobs += [(f"{number:064x}", message) for number, message in enumerate(extra, 900)]
    meta = json.dumps({**META, "latestRootBlobId": "ff"}).encode().hex()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE blobs (id TEXT PRIMARY KEY, data BLOB)")
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
        rows = [(n, m if isinstance(m, bytes) else json.dumps(m).encode()) for n, m in blobs]
        connection.executemany("INSERT INTO blobs VALUES (?, ?)", [*reversed(rows), ("ff", state)])
        connection.execute("INSERT INTO meta VALUES ('0', ?)", (meta,))
    connection.close()
    return path


def test_a_store_is_told_in_the_order_of_its_latest_state(tmp_path: Path) -> None:
    runs = loaders.load(store(tmp_path / "store.db", MESSAGES))
    frame = events(runs)
    assert frame["kind"].to_list() == [
        *("system", "user", "user", "thinking", "thinking", "message"),
        *("tool_call", "tool_result", "message"),
    ]
    assert frame["actor"].to_list()[1:3] == ["harness", None]
    assert frame["thinking_state"].to_list()[3:5] == ["text", "redacted"]
    assert frame["signature"].to_list()[3:5] == ["s", "locked"]
    result = frame.filter(kind="tool_result").row(0, named=True)
    assert (result["text"], result["is_error"], result["call_seq"]) == ("gone", True, 6)
    run = row(runs)
    assert (run["native_id"], run["model"], run["format"]) == ("a-1", "m-1", "cursor")
    assert str(run["started_at"]) == "2026-04-07 00:43:10.321000+00:00"
    assert json.loads(run["metadata"]) == {"title": "Chat", "last_used_model": "m-1"}
    assert run["environment"] is not None
    assert reasons(runs) == []
    for told in frame.to_dicts():
        raw = runs.raw(told["trajectory_id"], told["seq"])
        assert told["text"] is None or told["text"] in json.dumps(raw)


def test_a_store_reads_alike_packed_and_inside_an_archive(tmp_path: Path) -> None:
    plain = store(tmp_path / "store.db", MESSAGES)
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(plain, "chats/store.db")
    whole = events(loaders.load(plain))
    for other in (packed, tmp_path / "all.zip"):
        runs = loaders.load(other)
        frame = events(runs)
        assert frame.select("kind", "text").equals(whole.select("kind", "text"))
        assert runs.raw(frame["trajectory_id"][0], 8)["text"] == "Done."


def test_what_the_latest_state_does_not_list_is_a_problem(tmp_path: Path) -> None:
    lost = {"role": "user", "content": "left behind"}
    runs = loaders.load(store(tmp_path / "store.db", MESSAGES, extra=[lost, b"\x00x", {"a": 1}]))
    assert reasons(runs) == ["1 messages that the latest state does not list are not told"]
    assert "left behind" not in events(runs)["text"].to_list()


@pytest.mark.parametrize("root", [b"", b"\x0a\xff", b"\x07", b"\x80" * 20, b"{}", b"\x0a\x20short"])
def test_without_a_latest_state_messages_stand_as_written(tmp_path: Path, root: bytes) -> None:
    runs = loaders.load(store(tmp_path / "store.db", MESSAGES, root=root))
    assert events(runs)["text"].to_list()[0] == "Done."  # written last to first
    assert reasons(runs) == ["no latest state: messages stand as they were written"]


def test_a_message_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    path = store(tmp_path / "store.db", [*MESSAGES[:3], b"no message"])
    runs = loaders.load(path)
    assert events(runs)["kind"].to_list() == ["system", "user", "user"]
    assert reasons(runs) == ["a message of the latest state is not there"]


def test_changes_in_the_write_ahead_log_are_read(tmp_path: Path) -> None:
    path = store(tmp_path / "store.db", MESSAGES)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("UPDATE meta SET value = ?", (json.dumps({"agentId": "late"}).encode().hex(),))
    writer.commit()
    assert (tmp_path / "store.db-wal").stat().st_size > 0
    runs = loaders.load(path)
    writer.close()
    assert row(runs)["native_id"] == "late"


def test_a_store_cut_anywhere_gives_what_stands_before(tmp_path: Path) -> None:
    many = [{"role": "user", "content": f"{number:03d}" * 300} for number in range(60)]
    whole = store(tmp_path / "whole.db", many).read_bytes()
    told: list[int] = []
    for part in range(1, 10):
        cut = tmp_path / f"cut-{part}.db"
        cut.write_bytes(whole[: len(whole) * part // 10])
        try:
            runs = loaders.load(cut)
        except LoadError:  # nothing stands before the cut
            told.append(0)
            continue
        told.append(events(runs).height)
        assert any("cut short" in reason for reason in reasons(runs))
    assert told == sorted(told)
    assert told[-1] > 40


@pytest.mark.parametrize(
    "trap",
    [
        "CREATE VIEW blobs AS WITH RECURSIVE n(id, data) AS "
        "(SELECT 1, 'x' UNION ALL SELECT id + 1, data FROM n) SELECT id, data FROM n",
        "CREATE TABLE blobs (id TEXT, data AS (zeroblob(1000000000)))",
        "CREATE VIRTUAL TABLE blobs USING fts4(id, data)",
        "CREATE TABLE blobs (other TEXT)",
        "CREATE TABLE something (id TEXT)",
    ],
)
def test_traps_in_a_database_do_no_harm(tmp_path: Path, trap: str) -> None:
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as connection:
        connection.execute(trap)
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
        if "zeroblob" in trap:
            connection.execute("INSERT INTO blobs (id) VALUES ('1')")
    connection.close()
    begun = time.perf_counter()
    with pytest.raises(LoadError):
        loaders.load(path)
    assert time.perf_counter() - begun < 5


def test_hostile_content_of_a_store(tmp_path: Path) -> None:
    messages: list[Any] = [
        {"role": "assistant", "content": 5},
        {"role": "assistant", "content": [None, {"type": []}, {"type": "tool-call", "args": [1]}]},
        {"role": "tool", "content": [{"result": {"a": 1}, "experimental_content": [3]}]},
        {"role": "odd", "content": {"x": 1}, "providerOptions": [1]},
        {"role": "assistant", "content": [{"type": "text", "text": "end"}]},
    ]
    runs = loaders.load(store(tmp_path / "store.db", messages))
    assert events(runs, "message")["text"].to_list()[-1] == "end"
    assert events(runs, "tool_result")["text"].to_list() == ['{"a":1}']
    path = store(tmp_path / "other.db", MESSAGES)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = 'no hexadecimal digits'")
        connection.execute("INSERT INTO blobs VALUES (7, 8)")
        connection.execute("UPDATE blobs SET id = 'a/b~' || id")
    connection.close()
    assert "nothing there says what the store is of" in reasons(loaders.load(path))


def test_only_own_databases_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE blobs_of_mine (id TEXT)")
        connection.execute("CREATE TABLE meta (id TEXT)")
    connection.close()
    assert not cursor.sniff(Source(path).head)
    for named in (None, "cursor", "agentdojo"):
        with pytest.raises(LoadError, match="an SQLite database, no agent log"):
            loaders.load(path, format=named)


# ---------------------------------------------------------------------- stream-json


def streamed(kind: str, /, **more: Any) -> dict[str, Any]:
    return {"type": kind, "session_id": "st", **more}


INIT = streamed(
    "system", subtype="init", apiKeySource="login", cwd="/w", model="m-1", permissionMode="default"
)


def tool(subtype: str, name: str, key: str = "readToolCall", /, **call: Any) -> dict[str, Any]:
    return streamed("tool_call", subtype=subtype, call_id=name, tool_call={key: call})


def spoke(role: str, text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return streamed(role, message={"role": role, "content": content}, **more)


def test_a_stream_joins_thinking_and_links_results(tmp_path: Path) -> None:
    usage = {"inputTokens": 10, "outputTokens": 2, "cacheReadTokens": 3, "cacheWriteTokens": 1}
    runs = load(
        tmp_path,
        *(INIT, spoke("user", "go"), streamed("thinking", subtype="delta", text="hm ")),
        *(
            streamed("thinking", subtype="delta", text="so hm"),
            streamed("thinking", subtype="completed"),
        ),
        *(spoke("assistant", "Reading."), tool("started", "c1", args={"path": "a"})),
        tool("completed", "c1", args={"path": "a"}, result={"success": {"content": "text"}}),
        tool("completed", "c2", "shellToolCall", args={}, result={"error": {"code": 1}}),
        tool("completed", "c3", "function", name="f", arguments="{}", result={"rejected": {}}),
        spoke("assistant", "Done."),
        streamed("result", subtype="success", is_error=False, result="Done.", usage=usage),
    )
    assert cursor.sniff(Source(tmp_path / "t.jsonl").head)
    frame = events(runs)
    assert frame["text"].to_list()[:3] == ["go", "hm so hm", "Reading."]
    assert frame["step"].to_list()[:5] == [None, 0, 0, 0, 0]
    assert events(runs, "tool_call")["tool"].to_list() == ["read", "shell", "f"]
    told = events(runs, "tool_result")
    assert told["text"].to_list() == ["text", '{"code":1}', "{}"]
    assert told["is_error"].to_list() == [False, True, None]
    assert told["error_type"].to_list() == [None, "error", "rejected"]
    run = row(runs)
    assert (run["native_id"], run["model"], run["end_reason"]) == ("st", "m-1", "success")
    assert (run["input_tokens"], run["output_tokens"], run["cached_tokens"]) == (14, 2, 3)
    lost = loaders.coverage(tmp_path, cursor, progress=False).lost
    assert set(lost["path"]) <= {"/message/role", "/message/content/*/type", "/subtype"}


def test_a_stream_that_fails_ends_without_a_result(tmp_path: Path) -> None:
    runs = load(tmp_path, INIT, spoke("assistant", "a"), tool("started", "c1"), '{"type":')
    assert (row(runs)["outcome"], row(runs)["unanswered_calls"]) == ("unknown", 1)
    assert runs.problems.collect()["position"].to_list() == ["L4"]
    failed = streamed("result", subtype="error", is_error=True)
    assert row(load(tmp_path, INIT, failed))["outcome"] == "error"


def test_hostile_events_of_a_stream(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(INIT, "[1]", {"type": []}, {**INIT, "model": [1]}, streamed("assistant", message=[2])),
        *(streamed("tool_call", tool_call={"x": 1}, subtype=[]), tool("completed", [], result=[1])),  # type: ignore[arg-type]
        *(streamed("thinking", subtype="delta", text=[1]), streamed("result", usage=[1])),
        spoke("assistant", "end", timestamp_ms="x"),
    )
    assert events(runs, "message")["text"].to_list() == ["end"]
    assert set(runs.problems.collect()["position"]) == {"L2", "L3"}
