"""Runs from lists of messages and from frames, as from a file that holds the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import loaders
from loaders import LoadError

CALL = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": '{"path": "/"}'}}
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "You list files."},
    {"role": "user", "content": "What is there?"},
    {"role": "assistant", "content": None, "reasoning_content": "ls tells.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "a.txt"},
    {"role": "assistant", "content": "One file."},
]
KINDS = ["system", "user", "thinking", "tool_call", "tool_result", "message"]
ANTHROPIC = [
    {"role": "user", "content": "What is there?"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "ls tells.", "signature": "sig"},
            {"type": "tool_use", "id": "t1", "name": "ls", "input": {"path": "/"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a.txt"}]},
]


def kinds(runs: loaders.Trajectories) -> list[str]:
    return runs.events.collect()["kind"].to_list()


def test_one_list_of_messages_is_one_run() -> None:
    runs = loaders.from_messages(CHAT, task_id="t1", success=True)
    assert kinds(runs) == KINDS
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["task_id"], row["success"], row["format"]) == ("t1", True, "openai_chat")


def test_the_same_as_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(CHAT), encoding="utf-8")
    events = loaders.load(file).events.collect().drop("trajectory_id")
    assert loaders.from_messages(CHAT).events.collect().drop("trajectory_id").equals(events)


def test_several_conversations_of_several_shapes() -> None:
    record = {"messages": CHAT, "instance_id": "i7", "resolved": False}
    runs = loaders.from_messages([CHAT, ANTHROPIC, record], arm=["a", "b", "c"], split="pilot")
    table = runs.trajectories.collect()
    assert table["format"].to_list() == ["openai_chat", "anthropic_messages", "openai_chat"]
    assert table["arm"].to_list() == ["a", "b", "c"]
    assert table["split"].to_list() == ["pilot"] * 3
    assert table["task_id"].to_list() == [None, None, "i7"]
    assert table["success"].to_list() == [None, None, False]


def test_the_raw_record_is_found_while_the_process_lives() -> None:
    runs = loaders.from_messages([CHAT, CHAT[:2]])
    assert runs.raw(runs.ids[0], 3) == CALL
    assert runs.raw(runs.ids[1], 1) == CHAT[1]["content"]


def test_messages_with_values_that_json_lacks() -> None:
    chat = [
        {"role": "user", "content": "cut emoji \ud83d", "score": float("nan"), "n": np.int64(3)}
    ]
    runs = loaders.from_messages(chat, score=[np.float64(0.5)])
    assert runs.events.collect()["text"].to_list() == ["cut emoji \ufffd"]
    assert runs.trajectories.collect()["score"].to_list() == [0.5]


def test_what_is_no_conversation_says_so() -> None:
    with pytest.raises(LoadError, match=r"load\(\) reads files"):
        loaders.from_messages("runs/")
    with pytest.raises(LoadError, match="2 conversations in memory"):
        loaders.from_messages([[{"a": 1}], [{"b": 2}]])
    with pytest.raises(LoadError, match="arm has 3 values for 2 runs"):
        loaders.from_messages([CHAT, CHAT], arm=["a", "b", "c"])
    with pytest.raises(LoadError, match="Did you mean 'openai_chat'"):
        loaders.from_messages(CHAT, format="openai_chats")
    with pytest.raises(LoadError, match="trajectory_id"):
        loaders.from_messages(CHAT, trajectory_id="mine")


def test_one_bad_conversation_does_not_stop_the_others() -> None:
    runs = loaders.from_messages([CHAT, {"messages": None, "x": 1}])
    assert len(runs) == 1
    assert runs.problems.collect().height == 1


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_a_row_of_a_frame_is_a_run(library: str, as_text: bool) -> None:
    # Polars fills the keys that a message lacks with nulls: they must read as absent.
    chats = [CHAT, CHAT[:2]]
    data = {
        "messages": [json.dumps(chat) for chat in chats] if as_text else chats,
        "instance": ["i1", "i2"],
        "resolved": [True, False],
        "note": ["x", None],
    }
    frame: Any = pl.DataFrame(data, strict=False) if library == "polars" else pd.DataFrame(data)
    runs = loaders.from_frame(frame, task_id="instance")
    table = runs.trajectories.collect()
    assert table["task_id"].to_list() == ["i1", "i2"]
    assert table["success"].to_list() == [True, False]
    assert kinds(runs[runs.ids[0]]) == KINDS
    assert json.loads(table["metadata"][0])["note"] == "x"


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_a_row_of_a_frame_is_a_message(library: str) -> None:
    rows = [
        {"who": who, "turn": n, **message} for who in ("a", "b") for n, message in enumerate(CHAT)
    ]
    frame: Any = pl.DataFrame(rows) if library == "polars" else pd.DataFrame(rows)
    runs = loaders.from_frame(frame, run="who", arm="who")
    table = runs.trajectories.collect()
    assert table["arm"].to_list() == ["a", "b"]
    assert kinds(runs) == KINDS * 2
    assert table["unanswered_calls"].to_list() == [0, 0]


def test_runs_named_by_two_columns() -> None:
    frame = pl.DataFrame(
        {
            "task": ["t", "t", "t", "t"],
            "trial": [1, 2, 1, 2],
            "role": ["user", "user", "assistant", "assistant"],
            "content": ["q1", "q2", "a1", "a2"],
        }
    )
    runs = loaders.from_frame(frame.lazy(), run=["task", "trial"], task_id="task", trial="trial")
    assert runs.trajectories.collect().select("task_id", "trial").rows() == [("t", "1"), ("t", "2")]
    assert runs.events.collect()["text"].to_list() == ["q1", "a1", "q2", "a2"]


def test_a_frame_without_the_column_names_those_it_has() -> None:
    with pytest.raises(LoadError, match="no column 'messages'; it has chat, label"):
        loaders.from_frame(pl.DataFrame({"chat": ["x"], "label": [1]}))
    with pytest.raises(LoadError, match="Polars or pandas frame, not list"):
        loaders.from_frame([1, 2])
