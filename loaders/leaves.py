"""A log file as a tree whose leaves can be walked through, changed, and written again."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from loaders.bodies import body_text, body_value, is_event_stream
from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.sources import Source
from loaders.values import is_array, is_object
from loaders.yamltext import decode_yaml_cut, is_yaml_name

DISCRIMINATORS = (
    *("type", "kind", "role", "action", "observation", "event", "subtype", "status", "run_type"),
)
"""Keys by whose values a log tells apart what else stands in an object."""
_DISCRIMINATOR = re.compile(r"\S{1,40}")
_KEY_OF_DATA = re.compile(r"\d|[^\w.:$@-]|.{41}", re.DOTALL)
_NOT_IN_YAML = re.compile("[\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_MANY_KEYS = 60
_SHORTEST_BODY = 40
_ALIKE_KEPT = 2


class JSONText:
    """A text that holds JSON, opened; maybe behind a word (``data: {...}``)."""

    def __init__(self, value: Any, before: str = "") -> None:
        self.value = value
        self.before = before


class StreamText:
    """An event stream, opened: its lines, those of data as ``JSONText``."""

    def __init__(self, text: str) -> None:
        self.lines: list[Any] = [_data_of(line) for line in text.split("\n")]


class Leaf(NamedTuple):
    """A value in a file that holds no other values.

    ``path`` its JSON pointer with ``*`` for the index in an array and for keys that are data;
    ``within`` what the objects around it say they are (``type=assistant type=text``); ``holder`` and
    ``key`` where it stands, to change it there.
    """

    path: str
    within: str
    holder: Any
    key: Any
    value: Any


class Node(NamedTuple):
    """An object or an array that is known as a whole: the walk goes no deeper."""

    path: str
    within: str
    value: Any


class Line(NamedTuple):
    """A value at the root of a tree: a line of JSON, or of text, or the one value of a file."""

    tree: Tree
    number: int


class Tree:
    """The values of a file: lines of JSON, one value of JSON or YAML, an archive, or plain text."""

    def __init__(self, source: Source, prefix: str = "") -> None:
        self.prefix = prefix
        self.size = 0
        self.members: dict[str, Tree | bytes] = {}
        self.root: list[Any] = []
        self.is_text = self.is_lines = self.is_yaml = False
        if source.head.is_zip:
            for name in source.archive.names:
                self.members[name] = self._member(source.inside(name), name)
        else:
            self._decode(source)

    def _member(self, source: Source, name: str) -> Tree | bytes:
        return Tree(source, f"{self.prefix}{_pattern_of(name)}#")

    def _decode(self, source: Source) -> None:
        data = source.read_bytes()
        self.size = len(data)
        if source.is_json_lines:
            self.is_lines = True
            self.root = [_decoded(line) for line in data.split(b"\n") if line.strip()]
            return
        try:
            self.is_yaml = is_yaml_name(source.name)
            value = decode_yaml_cut(data)[0] if self.is_yaml else decode(data)
            if not (is_object(value) or is_array(value)):
                raise UnreadableRecord("one single value")
            self.root = [value]
        except UnreadableRecord:
            self.is_text = True
            self.root = [line for line in data.decode("utf-8", "replace").split("\n") if line]

    def content(self, written: dict[Line, bytes] | None = None) -> bytes:
        """The file as it would be with what was changed; an archive is written without packing.

        ``written``: lines as they were written before, of which none was changed or walked through
        since; those that it lacks are added.
        """
        written = {} if written is None else written
        if self.members:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                for name, member in self.members.items():
                    data = member.content(written) if isinstance(member, Tree) else member
                    archive.writestr(name, data)
            return packed.getvalue()
        lines = [Line(self, index) for index in range(len(self.root))]
        for line in lines:
            if line not in written:
                written[line] = self._written(self.root[line.number])
        return b"\n".join([written[line] for line in lines])

    def _written(self, value: Any) -> bytes:
        if self.is_text:
            return str(value).encode("utf-8", "replace")
        if isinstance(value, bytes):
            return value
        return _encoded_for_yaml(value) if self.is_yaml else _encoded(value)

    def keep(self, wanted: set[str | int]) -> None:
        """Let go of the members, or the lines, that are like others and are not ``wanted``.

        The first few of each pattern of names stay, whatever they hold, so that the log reads as before.
        """
        seen: Counter[str] = Counter()
        for name in list(self.members):
            pattern = _pattern_of(name)
            seen[pattern] += 1
            if seen[pattern] > _ALIKE_KEPT and name not in wanted:
                del self.members[name]
        self.root = [v for n, v in enumerate(self.root) if n < _ALIKE_KEPT or n in wanted]

    def pieces(self, is_known: Any) -> Iterator[tuple[str | int, Iterator[Leaf | Node]]]:
        """A walk through each member by its name, the smallest first, or each line by its number."""
        trees = [(name, m) for name, m in self.members.items() if isinstance(m, Tree)]
        for name, member in sorted(trees, key=lambda item: item[1].size):
            yield name, member.walk(is_known)
        for index, value in enumerate(self.root):
            if not isinstance(value, bytes):
                yield index, self._walk_value(index, is_known)

    def walk(self, is_known: Any) -> Iterator[Leaf | Node]:
        """All leaves. A node that ``is_known`` is given itself, and nothing below it."""
        for _, walk in self.walks(is_known):
            yield from walk

    def walks(self, is_known: Any) -> Iterator[tuple[Line, Iterator[Leaf | Node]]]:
        """Each line, of members of an archive too, with a walk through it."""
        for member in self.members.values():
            if isinstance(member, Tree):
                yield from member.walks(is_known)
        for index, value in enumerate(self.root):
            if not isinstance(value, bytes):
                yield Line(self, index), self._walk_value(index, is_known)

    def _walk_value(self, index: int, is_known: Any) -> Iterator[Leaf | Node]:
        path = self.prefix + ("line" if self.is_text else "")
        yield from _walk(path, "", self.root, index, self.root[index], is_known)


def _pattern_of(name: str) -> str:
    return "/".join(map(as_pattern, name.split("/")))


def _decoded(line: bytes) -> Any:
    try:
        return decode(line)
    except UnreadableRecord:
        return line  # stays as it is: the loader has made a problem of it


def _encoded(value: Any) -> bytes:
    return json.dumps(value, default=_packed).encode()


def _encoded_for_yaml(value: Any) -> bytes:
    """JSON that YAML reads alike: it knows no pairs of escapes, and few control characters."""
    text = json.dumps(value, default=_packed, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def _packed(value: Any) -> str:
    if isinstance(value, JSONText):
        return value.before + json.dumps(value.value, default=_packed)
    if isinstance(value, StreamText):
        return "\n".join(v if isinstance(v, str) else _packed(v) for v in value.lines)
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    return str(value)  # what YAML knows and JSON does not, such as a date


def _walk(  # noqa: PLR0917 - where, and what
    path: str, within: str, holder: Any, key: Any, value: Any, is_known: Any
) -> Iterator[Leaf | Node]:
    if isinstance(value, str | bytes) and not (isinstance(value, str) and is_known(value)):
        value = _opened(value, holder, key)
    if isinstance(value, StreamText):
        for index, line in enumerate(value.lines):
            if isinstance(line, JSONText):
                yield from _walk(f"{path}/data", within, value.lines, index, line, is_known)
        return
    if isinstance(value, JSONText):
        holder, key, value = value, "value", value.value
    if is_object(value) and value:
        if is_known(value):
            yield Node(path, within, value)
            return
        within = _within(within, value)
        as_data = len(value) > _MANY_KEYS
        for name, item in value.items():
            below = f"{path}/{'*' if as_data else as_pattern(name)}"
            yield from _walk(below, within, value, name, item, is_known)
    elif is_array(value) and value:
        if is_known(value):
            yield Node(path, within, value)
            return
        for index, item in enumerate(value):
            yield from _walk(f"{path}/{_named(item)}", within, value, index, item, is_known)
    else:
        yield Leaf(path, within, holder, key, value)


def _named(item: Any) -> str:
    """An item of an array; OpenTelemetry's attributes come as such, each with its key."""
    if is_object(item) and item.keys() == {"key", "value"} and is_object(item["value"]):
        return as_pattern(item["key"]) if isinstance(item["key"], str) else "*"
    return "*"


def _opened(body: str | bytes, holder: Any, key: Any) -> Any:
    """A text that is itself JSON is looked into, and stays a text when it is written again."""
    try:
        text = body_text(body) if isinstance(body, bytes) else body
        is_long = len(text) > _SHORTEST_BODY
        value = body_value(text) if text[:1] in ("{", "[") or is_long else text
    except UnreadableRecord:
        if isinstance(body, bytes):
            holder[key] = base64.b64encode(body).decode()
        return holder[key]
    if value and (is_object(value) or is_array(value)):
        holder[key] = JSONText(value)
    elif is_long and isinstance(value, str) and is_event_stream(value) and '{"' in value:
        holder[key] = StreamText(value)
    elif isinstance(body, bytes):
        holder[key] = text
    return holder[key]


def _data_of(line: str) -> Any:
    before, colon, data = line.partition(":")
    if colon and before == "data" and data.lstrip()[:1] == "{":
        try:
            return JSONText(decode(data.encode("utf-8", "surrogatepass")), "data: ")
        except UnreadableRecord:
            return line
    return line


def _within(outer: str, value: dict[str, Any]) -> str:
    said = [
        f"{key}={word}"
        for key in DISCRIMINATORS
        if isinstance(word := value.get(key), str) and _DISCRIMINATOR.fullmatch(word)
    ]
    return " ".join([outer, *said] if outer else said)


@lru_cache(maxsize=4096)
def as_pattern(key: str) -> str:
    """Keys that are data (ids, paths, numbers) stand for each other, as do numbers within dotted ones.

    >>> as_pattern("content"), as_pattern("0197-ab"), as_pattern("src/a.py"), as_pattern("a.0.b")
    ('content', '*', '*', 'a.*.b')
    """
    first, *more = key.split(".")
    pieces = [first, *("*" if piece.isdecimal() else piece for piece in more)]
    if any(_KEY_OF_DATA.search(piece) for piece in pieces if piece != "*"):
        return "*"
    return ".".join(pieces).replace("~", "~0")


def matcher(pattern: str) -> Any:
    """A question of (path, within): does a pattern of ignored paths cover it?

    ``*`` one key or index, ``**`` the place and everything below it. Words of the form ``key=value``
    before the pointer demand an object around it that says so. What stands before a ``#`` is a
    member of an archive, or a file beside the log; a pattern without one covers all of them.

    >>> covers = matcher("type=progress /data/**")
    >>> covers("/data/0/x", "type=progress"), covers("/data", "type=user"), covers("/uuid", "")
    (True, False, False)
    """
    *demands, pointer = pattern.split(" ")
    if "=" in pointer and "/" not in pointer:
        demands, pointer = [*demands, pointer], "/**"
    expression = re.escape(pointer).replace(r"/\*\*", "(?:/.*)?").replace(r"\*", "[^/]*")
    compiled = re.compile(expression if "#" in pointer else f"(?:.*#)?{expression}", re.DOTALL)

    def covers(path: str, within: str) -> bool:
        said = within.split(" ")
        return compiled.fullmatch(path) is not None and all(word in said for word in demands)

    return covers


@lru_cache(maxsize=64)
def covering(patterns: tuple[str, ...]) -> Callable[[str, str], str | None]:
    """A question of (path, within): which of the patterns of ignored paths covers it first?

    A log has many values at each path, so that the answers are remembered.

    >>> which = covering(("/a", "/b/**"))
    >>> which("/b/c", ""), which("/c", "")
    ('/b/**', None)
    """
    questions = [(pattern, matcher(pattern)) for pattern in patterns]

    @lru_cache(maxsize=4096)
    def first(path: str, within: str) -> str | None:
        return next((pattern for pattern, covers in questions if covers(path, within)), None)

    return first
