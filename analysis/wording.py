"""How two texts or two JSON schemas differ, in few words and in linear time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.values import is_array, is_object

_MAX_LEAVES = 10_000


def shown(text: str | None, chars: int = 60) -> str:
    r"""Text of a log as one short printable line: control and bidirectional signs as escapes.

    >>> shown("first\nsecond\u202e" + "x" * 99, 20)
    'first\\nsecond\\u202e…'
    """
    if text is None:
        return "–"
    line = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode()
        for sign in text[:chars]
    )
    return line if len(line) <= chars and len(text) <= chars else line[: chars - 1] + "…"


@dataclass(frozen=True)
class LineDifference:
    """How the lines of two texts differ: ``share`` of both texts' lines that the other lacks.

    ``first_a``, ``first_b`` are the first such line of each (None: none), as logged.
    """

    share: float
    first_a: str | None
    first_b: str | None
    is_reordered: bool

    def __str__(self) -> str:
        if self.is_reordered:
            return "the same lines in another order"
        return f"{100 * self.share:.0f} % of lines differ"


def line_difference(a: str, b: str) -> LineDifference:
    r"""Compare two texts line by line, wherever the lines stand.

    >>> line_difference("be brief\nbe kind", "be brief\nbe exact")
    LineDifference(share=0.5, first_a='be kind', first_b='be exact', is_reordered=False)
    """
    lines_a, lines_b = a.splitlines(), b.splitlines()
    only_a, only_b = Counter(lines_a) - Counter(lines_b), Counter(lines_b) - Counter(lines_a)
    lacking = only_a.total() + only_b.total()
    return LineDifference(
        share=lacking / max(1, len(lines_a) + len(lines_b)),
        first_a=next((line for line in lines_a if line in only_a), None),
        first_b=next((line for line in lines_b if line in only_b), None),
        is_reordered=not lacking and a != b,
    )


def schema_changes(a: str | None, b: str | None) -> list[str]:
    """Paths at which two JSON texts differ: ``+`` only in the second, ``-`` only in the first.

    >>> schema_changes('{"q": {"type": "string"}}', '{"q": {"type": "number"}, "n": {}}')
    ['+n', 'q/type']
    """
    left, right = _leaves(a), _leaves(b)
    if left is None or right is None:
        return [] if a == b else ["(no JSON that could be compared)"]
    tops = {"+": _branches(left), "-": _branches(right)}
    found: dict[str, None] = {}
    for path in sorted(left.keys() | right.keys()):
        if left.get(path) != right.get(path):
            sign = "+" if path not in left else "-" if path not in right else ""
            found[sign + (_top(path, tops[sign]) if sign else path) or "(whole)"] = None
    return list(found)


def _branches(leaves: dict[str, str]) -> set[str]:
    """Every path that leads to a leaf, and the leaves' own."""
    found = set(leaves)
    for path in leaves:
        parts = path.split("/")
        found.update("/".join(parts[:length]) for length in range(1, len(parts)))
    return found


def _top(path: str, branches: set[str]) -> str:
    """The top of what came or went with this leaf: the first part of its path that is no branch."""
    parts = path.split("/")
    tops = ("/".join(parts[:length]) for length in range(1, len(parts)))
    return next((top for top in tops if top not in branches), path)


def _leaves(text: str | None) -> dict[str, str] | None:
    """Every leaf by its path, not recursively: a hostile schema may be nested without end."""
    if text is None:
        return {}
    try:
        waiting: list[tuple[str, Any]] = [("", decode(text.encode("utf-8", "surrogatepass")))]
    except UnreadableRecord:
        return None
    leaves: dict[str, str] = {}
    while waiting and len(leaves) < _MAX_LEAVES:
        path, value = waiting.pop()
        pairs: list[tuple[Any, Any]] = []
        if is_object(value):
            pairs = list(value.items())
        elif is_array(value):
            pairs = list(enumerate(value))
        if not pairs:
            leaves[path] = json.dumps(value)
        waiting += [(f"{path}/{key}" if path else str(key), inner) for key, inner in pairs]
    return leaves


def json_leaves(text: str | None) -> dict[str, str]:
    """The leaves of JSON text by their path; text that is no JSON is one leaf.

    >>> json_leaves('{"temperature": 0.5, "provider": {"order": ["x"]}}')
    {'provider/order/0': 'x', 'temperature': '0.5'}
    """
    leaves = _leaves(text)
    if leaves is None:
        return {"": text or ""}
    return {
        path: json.loads(leaf) if leaf[0] == '"' else leaf for path, leaf in sorted(leaves.items())
    }
