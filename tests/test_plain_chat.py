"""Ordinary chat rows are told in a shorter way: it gives the tables of the general one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loaders
from loaders import transcripts
from loaders.dialects import plain_chat

TABLES = ("trajectories", "steps", "events", "tools", "problems")
WORDS = st.sampled_from(
    [
        "",
        " \n",
        "plain",
        'says "this"',
        "ä \\ \u2028 \U0001f600",
        "<think>why</think>so",
        "why</think>so",
        "<function=bash>\n<parameter=command>ls</parameter>\n</function>",
        "<|im_system|>tool_declare<|im_middle|>[]",
        "sk-ant-" + "a" * 40,
    ]
)
NAMES = st.sampled_from(["look", "list", ""])
IDS = st.sampled_from(["a", "b", "c", "d", "e", ""])


def some(field: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The field with a value, as null, or not at all."""
    return st.one_of(
        st.just({}), st.just({field: None}), st.builds(lambda value: {field: value}, values)
    )


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


FUNCTIONS = st.builds(merged, some("name", NAMES), some("arguments", WORDS))
CALLS = st.builds(
    merged,
    some("id", IDS),
    st.just({"type": "function"}),
    st.builds(lambda function: {"function": function}, FUNCTIONS),
    some("index", st.integers(0, 3)),
)
REPLIES = st.builds(
    merged,
    st.just({"role": "assistant"}),
    some("content", WORDS),
    some("reasoning_content", WORDS),
    some("reasoning", WORDS),
    some("tool_calls", st.lists(CALLS, max_size=3)),
    some("refusal", st.just("no")),
)
RESULTS = st.builds(
    merged,
    st.just({"role": "tool"}),
    some("tool_call_id", IDS),
    some("content", WORDS),
    some("name", NAMES),
)
OTHERS = st.builds(
    merged,
    st.builds(
        lambda role: {"role": role}, st.sampled_from(["system", "developer", "user", "critic"])
    ),
    some("content", st.one_of(WORDS, st.just([{"type": "text", "text": "part"}]))),
    some("name", NAMES),
    some("timestamp", st.sampled_from(["2026-01-01T00:00:00Z", 1767225600, 1.5, "noon"])),
    some("more", st.just(1)),
)
ROWS = st.builds(
    merged,
    some("task_id", NAMES),
    some("system", WORDS),
    some("tools", st.just([{"type": "function", "function": {"name": "look"}}])),
    st.builds(
        lambda messages: {"messages": messages},
        st.lists(st.one_of(REPLIES, REPLIES, RESULTS, RESULTS, OTHERS), min_size=1, max_size=9),
    ),
    some("reward", st.sampled_from([0, 1, 0.5])),
    some("info", st.just({"a": "b", "c": ["d"]})),
)


def tables(path: Path) -> dict[str, pl.DataFrame]:
    runs = loaders.load(path, format="openai_chat", progress=False)
    return {name: getattr(runs, name).collect() for name in TABLES}


class _NoPlainRows:
    def row(self, _: bytes) -> None:
        return None


@pytest.fixture
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plain") / "rows.jsonl"


def same_all_ways(path: Path) -> dict[str, pl.DataFrame]:
    """Read in the shortest way, message by message, and in the general way."""
    short = tables(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_chat, "_rows_of", lambda *_: None)
        one_by_one = tables(path)
        patch.setattr(transcripts, "PlainRows", _NoPlainRows)
        general = tables(path)
    for name in TABLES:
        assert short[name].equals(general[name]), name
        assert one_by_one[name].equals(general[name]), name
    return short


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ROWS, min_size=2, max_size=4), st.booleans(), st.booleans())
def test_ordinary_rows_read_as_any_others(
    file: Path, rows: list[dict[str, Any]], compact: bool, escaped: bool
) -> None:
    separators = (",", ":") if compact else None
    lines = [json.dumps(row, separators=separators, ensure_ascii=escaped) for row in rows]
    # A first row that any reader knows as OpenAI's keeps odd ones from being no log at all.
    first = json.dumps({"messages": [{"role": "system", "content": "go"}]})
    file.write_text("\n".join([first, *lines]) + "\n", encoding="utf-8", errors="surrogatepass")
    same_all_ways(file)


def turns(count: int) -> list[dict[str, Any]]:
    """A conversation as most data sets have them."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "go"},
    ]
    for turn in range(count):
        function = {"name": "look", "arguments": json.dumps({"at": f'"{turn}"'})}
        call = {"id": f"c{turn}", "type": "function", "function": function}
        messages.append(
            {
                "role": "assistant",
                "content": f"turn {turn}" if turn % 3 else None,
                "reasoning_content": "hm" if turn % 2 else None,
                "tool_calls": [call],
            }
        )
        if turn != 2:
            messages.append({"role": "tool", "tool_call_id": f"c{turn}", "content": f"r{turn}"})
    return messages


def test_rows_are_told_in_the_short_way(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the comparison would compare nothing, and reading would be slow."""
    rows = [{"task_id": str(n), "messages": turns(n + 2), "reward": n % 2} for n in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = same_all_ways(file)
    assert read["trajectories"]["steps"].to_list() == [2, 3, 4, 5]
    assert read["events"]["call_seq"].drop_nulls().len() == 2 + 2 + 3 + 4
    assert read["trajectories"]["unanswered_calls"].to_list() == [0, 1, 1, 1]

    def slow(*_: object) -> None:
        pytest.fail("told message by message")

    monkeypatch.setattr(plain_chat, "_tell_reply", slow)
    assert tables(file)["events"].equals(read["events"])


@pytest.mark.parametrize(
    "repeated",
    [
        '"role": "assistant", "content": "a", "content": "b"',
        '"role": "assistant", "content": null, "content": "b"',
        '"role": "user", "role": "assistant", "content": "b"',
        '"role": "assistant", "content": "b", "tool_calls": [], "tool_calls": null',
        '"role": "assistant", "content": "b", "tool_calls": [{"id": "x", "id": "y", "function": {}}]',
    ],
)
def test_keys_that_repeat_are_told_of_ordinary_rows_too(file: Path, repeated: str) -> None:
    good = json.dumps({"messages": turns(2)})
    bad = f'{{"messages": [{{"role": "user", "content": "go"}}, {{{repeated}}}]}}'
    file.write_text(f"{good}\n{bad}\n{good}\n")
    problems = same_all_ways(file)["problems"]
    assert problems["position"].to_list() == ["L2"]
    assert "repeat" in problems["reason"][0]


def test_ordinary_and_other_rows_stand_together_in_order(file: Path) -> None:
    """Runs of both kinds by turns, and more events than one chunk holds."""
    odd = [{"role": "user", "content": [{"type": "text", "text": "part"}]}, *turns(3)[2:]]
    rows = [{"messages": odd if n % 3 == 1 else turns(40)} for n in range(250)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = same_all_ways(file)
    assert read["events"].height > 16_384
    assert read["events"]["run"].is_sorted()
    for name in ("events", "steps"):
        number = {"events": "seq", "steps": "step"}[name]
        counted = read[name].select(pl.int_range(pl.len()).over("run"))
        assert read[name][number].equals(counted.to_series().alias(number))


def test_after_many_other_rows_no_more_are_tried(file: Path) -> None:
    rows = plain_chat.PlainRows()
    good = json.dumps({"messages": turns(2)}).encode()
    for _ in range(16):
        assert rows.row(b'{"messages": [{"role": "user", "content": [1]}]}') is None
    assert rows.row(good) is None
    assert plain_chat.PlainRows().row(good) is not None
