"""What a message of a trace says, where its pieces stand, and what of it was read before.

Each request of an agent repeats the ones before it. What a message says is therefore one object for
all places where it stands, and is read, named and looked through once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from loaders.dialects.wire import squeezed
from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.values import Object, fingerprint, well_formed

_DEEPEST: Final = 12
_MOST_HELD: Final = 32 << 20
"""Characters of what was read before, beyond which all of it is forgotten."""
_PER_ENTRY: Final = 200
_MOST_NAMES: Final = 20_000
_EQUAL_AS_WRITTEN: Final = frozenset((str, int))
"""Types of which equal values are written alike; ``True`` and ``1.0`` equal ``1``."""
_Found = TypeVar("_Found")


class Part(NamedTuple):
    """A piece of a message: ``text``, ``thinking``, ``call``, ``result``, ``media``, ``definition``.

    ``pos`` leads to it from where the message stands.
    """

    kind: str
    text: str | None
    pos: str
    name: str | None = None
    call_id: str | None = None
    value: Any = None
    state: str = "text"
    signature: str | None = None


class Said:
    """What a message says, wherever it stands; ``role`` is system, user, assistant, tool, or another.

    ``thoughts`` its thinking; ``has_words`` whether it holds anything but definitions of tools.
    """

    def __init__(
        self,
        role: str,
        parts: Sequence[Part],
        name: str | None = None,
        finish: str | None = None,
    ) -> None:
        self.role, self.parts, self.name, self.finish = role, parts, name, finish
        self.thoughts = [part for part in parts if part.kind == "thinking"]
        self.has_words = any(part.kind != "definition" for part in parts)

    @cached_property
    def keys(self) -> list[str]:
        """What makes two writings of a message the same: the ids of its calls, or what it says."""
        calls = [part for part in self.parts if part.kind in ("call", "result")]
        ids = [part.call_id for part in calls if part.call_id]
        keys = [fingerprint(self.role, "ids", *ids)] if ids and len(ids) == len(calls) else []
        if self.role == "tool" and len(calls) == 1 and calls[0].text:
            return [*keys, fingerprint("tool", canonical(calls[0].text))]
        said = squeezed("".join(part.text or "" for part in self.parts if part.kind == "text"))
        media = [part.name or "" for part in self.parts if part.kind == "media"]
        acts = [f"{part.name}{squeezed(part.text)}{canonical(part.value)}" for part in calls]
        return [*keys, fingerprint(self.role, said, *media, "\0", *acts)]

    def with_parts(self, parts: Sequence[Part]) -> Said:
        """The same but for what it says."""
        return Said(self.role, parts, self.name, self.finish)

    @property
    def as_reply(self) -> Said:
        """The same as what a model says."""
        is_reply = self.role == "assistant"
        return self if is_reply else Said("assistant", self.parts, self.name, self.finish)


class Scattered:
    """Where a message stands whose pieces are attributes of their own: their names and places.

    Names without what all of them begin with.
    """

    def __init__(self, names: Sequence[str], places: Sequence[str]) -> None:
        self._names, self._places = names, places

    def of(self, pos: str) -> str:
        """Where a part stands: at its text, else at its first attribute, else where the message does."""
        return self._by_name.get(pos[1:].replace("/", "."), self._default)

    @cached_property
    def _by_name(self) -> dict[str, str]:
        texts: dict[str, str] = {}
        others: dict[str, str] = {}
        for name, place in zip(self._names, self._places, strict=True):
            found = texts if name.rpartition(".")[2] in ("content", "text") else others
            for _ in range(_DEEPEST):
                found.setdefault(name, place)
                if not name:
                    break
                name = name.rpartition(".")[0]
        return {**others, **texts}

    @cached_property
    def _default(self) -> str:
        pieces = zip(self._names, self._places, strict=True)
        contents = [place for name, place in pieces if name.endswith("content")]
        return contents[-1] if contents else self._places[0]


class Message(NamedTuple):
    """A message of a request or a reply, at its place."""

    said: Said
    at: str | Scattered = ""

    @property
    def role(self) -> str:
        return self.said.role

    @property
    def parts(self) -> Sequence[Part]:
        return self.said.parts

    def place_of(self, part: Part) -> str:
        """Where one of its parts stands."""
        return self.at + part.pos if isinstance(self.at, str) else self.at.of(part.pos)

    def placed_parts(self) -> list[Part]:
        """Its parts, each with its whole place."""
        return [part._replace(pos=self.place_of(part)) for part in self.parts]

    def with_whole_places(self) -> Message:
        """The same; its parts themselves have their whole places."""
        said = self.said
        return self if self.at == "" else Message(said.with_parts(self.placed_parts()))

    def joined(self, *others: Message, pos: str = "") -> Message:
        """One message that says all of these; at ``pos``, below which they stand."""
        placed = (part for message in (self, *others) for part in message.placed_parts())
        parts = [part._replace(pos=part.pos.removeprefix(pos)) for part in placed]
        return Message(self.said.with_parts(parts), pos)


class ByName(dict[str, _Found]):
    """What the name of an attribute tells, by a function of it alone; all forgotten where too many."""

    def __init__(self, read: Callable[[str], _Found]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, name: str) -> _Found:
        if len(self) >= _MOST_NAMES:
            self.clear()
        found = self[name] = self._read(name)
        return found


class Known:
    """What was read before of a source, and is not to be read again where it repeats.

    Keys are what was read, whole: nothing is taken for known that differs in a letter.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}
        self._held = 0
        self._tables: dict[Callable[[str], Any], ByName[Any]] = {}

    def table(self, read: Callable[[str], _Found]) -> ByName[_Found]:
        """What names of attributes tell by that function."""
        found = self._tables.get(read)
        if found is None:
            found = self._tables[read] = ByName(read)
        return found

    def get(self, key: Hashable) -> Any:
        """What was read under a key; None where nothing was, or is forgotten."""
        return self._found.get(key)

    def keep(self, key: Hashable, size: int, found: _Found) -> _Found:
        """What was read under a key of so many characters, and is not to be changed."""
        self._held += size + _PER_ENTRY
        if self._held > _MOST_HELD:
            self._found.clear()
            self._held = size + _PER_ENTRY
        self._found[key] = found
        return found

    def value(self, text: Any) -> Any:
        """The same as ``as_value``, of a text that is likely to be repeated."""
        if not isinstance(text, str) or text[:1] not in ("{", "[", '"'):
            return text
        found = self.get(text)
        return self.keep(text, len(text), as_value(text)) if found is None else found


def key_of_object(value: Object) -> bytes | None:
    """The JSON text of an object, None where it can't be written as it is."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None


def are_told_apart(values: Iterable[Any]) -> bool:
    """Whether these values of attributes equal no others that are written differently."""
    return _EQUAL_AS_WRITTEN.issuperset(map(type, values))


def as_value(text: Any) -> Any:
    """What a text holds as JSON; the text itself where it holds none."""
    if isinstance(text, str) and text[:1] in ("{", "[", '"'):
        try:
            return decode(text.encode("utf-8", "surrogatepass"))
        except UnreadableRecord:
            return text
    return text


def canonical(arguments: Any) -> str:
    """The same text for the same arguments; none, an empty text and ``{}`` are the same."""
    value: Any = as_value(arguments) or {}
    try:
        return msgspec.json.encode(value, order="deterministic").decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(well_formed(value), order="deterministic").decode()
