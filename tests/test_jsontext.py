"""JSON as logs hold it: what is lenient, what is refused, what is read of a text cut short."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from budget import at_most
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.errors import UnreadableRecord
from loaders.jsontext import NotJSON, decode, decode_cut, decode_glued, decode_with_doubt

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_what_python_writes_is_read_back(value: Any) -> None:
    assert decode(json.dumps(value).encode()) == value
    assert decode_with_doubt(json.dumps(value, ensure_ascii=False, indent=1).encode())[1] is None


@pytest.mark.parametrize(
    ("text", "value", "doubt"),
    [
        (b'{"a": NaN, "b": -Infinity, "c": 1.5}', {"a": None, "b": None, "c": 1.5}, "NaN"),
        (b"[1e999, 2]", [None, 2], "out of range"),
        (b'["\\ud83d", "\\ud83d\\ude00"]', ["\ufffd", "\U0001f600"], "surrogates"),
        (b'"caf\xe9"', "caf\ufffd", "no UTF-8"),
        (b'"one\nline\ttab\x01"', "one\nline\ttab\x01", "control characters"),
        (b'{"\\ud800": 1}', {"\ufffd": 1}, "surrogates"),
    ],
)
def test_what_is_no_json_is_read_with_a_doubt(text: bytes, value: Any, doubt: str) -> None:
    found, said = decode_with_doubt(text)
    assert found == value
    assert said is not None
    assert doubt in said


def test_harmless_oddities_raise_no_doubt() -> None:
    assert decode_with_doubt(b'\xef\xbb\xbf{"a": 1}\r\n') == ({"a": 1}, None)
    assert decode_with_doubt(b"1" * 40) == (int("1" * 40), None)


@pytest.mark.parametrize(
    ("text", "byte", "word"),
    [
        (b'{"a": 1, "b": tru', 14, "cut short"),
        (b'{"a": "never clo', 6, "cut short"),
        (b'{"n": NaN, "a": "never clo', 16, "cut short"),
        (b"", 0, "cut short"),
        (b'{"a": 1} {"b": 2}', 9, "more follows"),
        (b'{"caf\xc3\xa9": 1,, "b": 2}', 12, "no JSON"),
        (b'"\xff" x', 4, "more follows"),
        (b"Traceback (most recent call last):", 0, "no JSON"),
    ],
)
def test_broken_text_says_where_it_breaks(text: bytes, byte: int, word: str) -> None:
    with pytest.raises(NotJSON) as caught:
        decode(text)
    assert caught.value.byte == byte
    assert word in caught.value.reason


@pytest.mark.parametrize("bracket", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("decoder", [decode, decode_cut])
def test_deep_nesting_is_refused_at_once(bracket: bytes, decoder: Any) -> None:
    with at_most(2), pytest.raises(UnreadableRecord, match="nested too deeply"):
        decoder(bracket * 100_000)


@pytest.mark.parametrize("depth", range(100, 1_000, 50))
def test_nesting_at_the_limit_is_read_or_refused_but_never_crashes(depth: int) -> None:
    for inner in (b"1", b"NaN", b'"\\ud800"'):
        with suppress(UnreadableRecord):  # nothing else may come out of it
            assert isinstance(decode(b"[" * depth + inner + b"]" * depth), list)


def test_a_number_too_long_to_be_one_is_refused() -> None:
    with pytest.raises(UnreadableRecord, match="not JSON"):
        decode(b"[" + b"9" * 5_000 + b"]")


@given(JSON, st.data())
@settings(max_examples=200)
def test_a_cut_text_gives_a_part_of_the_whole(value: Any, data: st.DataObject) -> None:
    text = json.dumps({"first": "kept", "rest": value}).encode()
    cut = data.draw(st.integers(len('{"first": "kept",'), len(text)))
    found = decode_cut(text[:cut])
    assert found["first"] == "kept"
    assert _is_part_of(found, {"first": "kept", "rest": value})


def _is_part_of(part: Any, whole: Any) -> bool:
    """What a cut leaves: a prefix of each open array and object, and everything before them whole."""
    if isinstance(part, dict) and isinstance(whole, dict):
        keys = list(whole)[: len(part)]
        last = len(keys) - 1
        return list(part) == keys and all(
            _is_part_of(part[k], whole[k]) if i == last else part[k] == whole[k]
            for i, k in enumerate(keys)
        )
    if isinstance(part, list) and isinstance(whole, list):
        return part[:-1] == whole[: max(0, len(part) - 1)] and (
            not part or _is_part_of(part[-1], whole[len(part) - 1])
        )
    return part == whole


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": 1, "b', {"a": 1}),
        (b'{"a": 1, "b"', {"a": 1}),
        (b'{"a": 1, "b":', {"a": 1}),
        (b'{"a": 1, "b": 12', {"a": 1}),  # 12 may be the beginning of 123
        (b'{"a": [1, {"b": "x"}, {"c": "cut \\"he', {"a": [1, {"b": "x"}, {}]}),
        (b"[1]]", [1]),
        (b'{"a": {"b": [', {"a": {"b": []}}),
    ],
)
def test_half_tokens_are_left_out(text: bytes, value: Any) -> None:
    assert decode_cut(text) == value


@pytest.mark.parametrize("text", [b"", b"tru", b'"never clo', b"}", b"   "])
def test_a_cut_before_the_first_value_is_said(text: bytes) -> None:
    with pytest.raises(UnreadableRecord, match="cut before its first value"):
        decode_cut(text)


def test_a_long_open_string_costs_one_pass() -> None:
    with at_most(3):
        assert decode_cut(b'{"a": 1, "b": "' + b"\\n" * 5_000_000) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'[{"b": {"x": 1, "y": 2, "x": 3}}]',
        b'{"a": "1", "a": 123456789012345678901234567890}',
        b'{"\\u0061": 1, "a": 2}',
    ],
)
def test_a_repeated_key_is_told(text: bytes) -> None:
    value, doubt = decode_with_doubt(text)
    assert value == json.loads(text)
    assert doubt == "keys that repeat in one object; the last one counts"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": "\\u0022quoted\\u0022", "b": "\\" \\\\"}',
        b'{"a": {"x": 1}, "b": {"x": 1}}',
        b'{"n": 123456789012345678901234567890}',
        b'"text"',
        b"[]",
    ],
)
def test_of_keys_that_do_not_repeat_nothing_is_told(text: bytes) -> None:
    assert decode_with_doubt(text) == (json.loads(text), None)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1} {"b": 2}\n', ([{"a": 1}, {"b": 2}], None)),
        (b'{"a": NaN}', ([{"a": None}], None)),
        (b'{"a": 1}{"b', ([{"a": 1}], "JSON is cut short")),
        (b'{"a": 1}]', ([{"a": 1}], "no JSON: no object")),
        (b"[1][2]", ([], "no JSON: no object")),
        (b'{"a": 1}' + b'{"a":' * 100_000, ([{"a": 1}], "not JSON")),
        (b'{"a": "\xff"}', ([{"a": "\ufffd"}], None)),
    ],
)
def test_objects_without_a_newline_between_them(data: bytes, expected: Any) -> None:
    assert decode_glued(data) == expected


def test_many_objects_on_one_line_take_linear_time() -> None:
    assert len(decode_glued(b'{"a": 1}' * 200_000)[0]) == 200_000
