"""Attributes by their names: flat, nested, or indexed (``llm.input_messages.0.message.role``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from loaders.dialects.span_messages import messages_of
from loaders.dialects.span_said import Known, Message, Scattered, are_told_apart, as_value
from loaders.values import Object, as_array, as_object, is_object

Attributes = dict[str, tuple[Any, str]]
"""Values of attributes by their full names, each with its place in the record."""
Events = list[tuple[str, Attributes, str]]
"""Names, attributes and places of a span's events."""


def flat(attributes: Any, pos: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Attributes by their full names; objects inside them are more of the same."""
    for key, value in as_object(attributes).items():
        name, place = f"{prefix}{key}", f"{pos}/{key.replace('~', '~0').replace('/', '~1')}"
        yield name, (value, place)
        if is_object(value) and depth < 6:
            yield from flat(value, place, f"{name}.", depth + 1)


class _Pieces:
    """Attributes with the same name up to a number; ``names`` are what follows that."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.values: list[Any] = []
        self.places: list[str] = []

    @property
    def size(self) -> int:
        """How long their texts are."""
        return sum(len(value) for value in self.values if isinstance(value, str))

    def tree(self) -> Any:
        """What they say together."""
        whole: Object = {}
        for name, value in zip(self.names, self.values, strict=True):
            holder, words = whole, name.split(".")
            for word in words[:-1]:
                inner = holder.setdefault(word, {})
                holder = inner if is_object(inner) else {}
            holder.setdefault(words[-1], value)
        return _with_lists(whole)


class Named:
    """The attributes of a span or an event, to be asked for by their names."""

    def __init__(self, attributes: Attributes, known: Known) -> None:
        self.attributes, self.known = attributes, known

    def values(self, name: str) -> list[Any]:
        """Values under ``name.0``, ``name.1``, ... put together."""
        return [self._tree(pieces) for pieces in self._numbered(name)]

    def listed(self, name: str) -> list[Any]:
        """Values of an array, which stands there whole or indexed."""
        whole = as_array(self.attributes[name][0]) if name in self.attributes else []
        return whole or self.values(name)

    def messages(self, names: tuple[str, ...], role: str) -> list[Message]:
        """Messages under the first of these attributes that holds any, whole or indexed."""
        for name in names:
            value, place = self.attributes.get(name, (None, ""))
            found: list[Message] = []
            if value is not None:
                found = messages_of(as_value(value), place, role, self.known)
            if not any(said.parts for said, _ in found):
                found = [
                    message
                    for pieces in self._numbered(name)
                    for message in self._put_together(pieces, role)
                ]
            if found:
                return found
        return []

    @cached_property
    def _by_number(self) -> dict[str, dict[int, _Pieces]]:
        found: dict[str, dict[int, _Pieces]] = {}
        addresses = self.known.table(_address)
        for name, (value, place) in self.attributes.items():
            if (address := addresses[name]) is None:
                continue
            stem, number, rest = address
            numbered = found.get(stem)
            if numbered is None:
                numbered = found[stem] = {}
            pieces = numbered.get(number)
            if pieces is None:
                pieces = numbered[number] = _Pieces()
            pieces.names.append(rest)
            pieces.values.append(value)
            pieces.places.append(place)
        return found

    def _numbered(self, name: str) -> Iterator[_Pieces]:
        numbered = self._by_number.get(name, {})
        return (numbered[number] for number in sorted(numbered))

    def _tree(self, pieces: _Pieces) -> Any:
        """What pieces say together, the same object where they are the same."""
        if not are_told_apart(pieces.values):
            return pieces.tree()
        key = ("", *pieces.names, *pieces.values)
        found = self.known.get(key)
        return self.known.keep(key, pieces.size, pieces.tree()) if found is None else found

    def _put_together(self, pieces: _Pieces, role: str) -> Iterator[Message]:
        """Messages of which each piece has an attribute of its own."""
        values = pieces.values
        key = (role, *pieces.names, *values) if are_told_apart(values) else None
        found: Sequence[Message] | None = None if key is None else self.known.get(key)
        if found is None:
            told = messages_of(pieces.tree(), "", role)
            found = [message.with_whole_places() for message in told]
            if key is not None:
                self.known.keep(key, pieces.size, found)
        at = Scattered(pieces.names, pieces.places)
        return (Message(said, at) for said, _ in found)


def _address(name: str) -> tuple[str, int, str] | None:
    """What stands before the first number in a name, the number, and what follows it."""
    words = name.split(".")
    for index, word in enumerate(words):
        if index and word.isdecimal():
            stem, rest = ".".join(words[:index]), ".".join(words[index + 1 :])
            return (stem, int(word), rest) if len(word) < 10 else None
    return None


def _with_lists(value: Any, depth: int = 0) -> Any:
    """The same value with arrays where an object's keys are numbers."""
    if not is_object(value) or depth > 20:
        return value
    if value and all(key.isdecimal() and len(key) < 10 for key in value):
        return [_with_lists(value[key], depth + 1) for key in sorted(value, key=int)]
    return {key: _with_lists(inner, depth + 1) for key, inner in value.items()}
