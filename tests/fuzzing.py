"""Logs that are damaged in every way that a file can be, and what must hold whatever stands in one.

An input is a file of the samples with some mutations, named by a number: the same number is the same
input. ``check`` loads it and raises ``Broken`` where the loaders crash, hang, take too much memory or
leave tables that break the schema's rules.
"""

from __future__ import annotations

import faulthandler
import functools
import gzip
import io
import json
import os
import random
import resource
import signal
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import battery

import loaders
from loaders import LoadError
from loaders.reading import grouped
from loaders.sources import Source

SECONDS = 10
"""Of processor time for one input, which is a few kilobytes."""
MEGABYTES = 400
"""By which the memory of the process may grow over one input."""
_SAMPLES_PER_FORMAT = 4
_MAX_BYTES = 150_000
_FILES_OF_A_FOLDER = 12

# Wherever a log tells its times and numbers falsely, so do the tables: these rules are about the log.
_ABOUT_THE_LOG = {
    "times_run_forward",
    "positions_lead_to_the_raw_record",
    "positions_of_runs_and_steps_lead_somewhere",
    "the_code_of_the_format_does_not_fail",
    "credentials_are_gone",
}
RULES = [rule for rule in battery.RULES_OF_A_TABLE if rule.__name__ not in _ABOUT_THE_LOG]


class Broken(AssertionError):
    """Something that must hold for every input does not hold for this one."""


class _Hung(BaseException):
    """Not an ``Exception``, which the loaders would take for a trouble of the log's."""


@dataclass(frozen=True)
class Sample:
    """A small file of a format: ``name`` as its format wants it, in the folder it wants.

    ``others``: names and bytes of the files that are one log together with it.
    """

    format: str
    name: str
    data: bytes
    others: tuple[tuple[str, bytes], ...] = ()


WRITTEN_HERE = (
    Sample(
        "cline",
        "tasks/1769000000000/api_conversation_history.json",
        json.dumps(
            [
                {"role": "user", "content": [{"type": "text", "text": "<task>\nfix it\n</task>"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Look first.", "signature": "c2ln"},
                        {
                            "type": "tool_use",
                            "id": "t1",
                            "name": "read_file",
                            "input": {"path": "a"},
                        },
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "text"}],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
            ]
        ).encode(),
    ),
)
"""Of formats of which no log is public."""


@functools.cache
def samples() -> tuple[Sample, ...]:
    """The smallest files of each format, out of the sample logs and the real ones where they are."""
    found = {sample.format: [sample] for sample in WRITTEN_HERE}
    in_folders: dict[str, list[Sample]] = {}
    for path in battery.folders().values():
        for chosen, sources, _ in grouped(path):
            for sample in _of_a_folder(chosen.name, sources):
                in_folders.setdefault(chosen.name, []).append(sample)
            for source in sources[:1]:
                file = source.path
                few = len(found.get(chosen.name, ())) < _SAMPLES_PER_FORMAT
                if source.member is None and (few or file.stat().st_size <= _MAX_BYTES):
                    data = _trimmed(file.read_bytes())
                    if 0 < len(data) <= _MAX_BYTES:
                        name = "/".join(file.parts[-3:])
                        found.setdefault(chosen.name, []).append(Sample(chosen.name, name, data))
    return tuple(
        sample
        for name in sorted(found)
        for some in (found[name], in_folders.get(name, []))
        for sample in sorted(some, key=lambda s: (len(s.data), s.name))[:_SAMPLES_PER_FORMAT]
    )


def _of_a_folder(name: str, sources: list[Source]) -> Iterator[Sample]:
    """Files of a log that lies in several, each with the others; a long one is left with fewer."""
    if len(sources) < 2 or any(source.member for source in sources):
        return
    files = [source.path for source in sources][:_FILES_OF_A_FOLDER]
    above = Path(os.path.commonpath([file.parent for file in files])).parent
    told = [(file.relative_to(above).as_posix(), file.read_bytes()) for file in files]
    if sum(len(data) for _, data in told) <= _MAX_BYTES:
        for place, (relative, data) in enumerate(told):
            yield Sample(name, relative, data, (*told[:place], *told[place + 1 :]))


def _trimmed(data: bytes) -> bytes:
    """A large file of JSON with fewer lines, or fewer items in its outer lists."""
    if len(data) <= _MAX_BYTES:
        return data
    try:
        return json.dumps(_with_short_lists(json.loads(data), 3)).encode("utf-8", "surrogatepass")
    except ValueError:
        return data[:_MAX_BYTES].rpartition(b"\n")[0]


def _with_short_lists(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {key: _with_short_lists(inner, depth) for key, inner in value.items()}
    if isinstance(value, list) and depth:
        return [_with_short_lists(inner, depth - 1) for inner in value[: 2 if depth > 2 else 20]]
    return value


# ---------------------------------------------------------------------- mutations

Chance = random.Random
Mutation = Callable[[bytes, Chance], bytes]

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 2**31, 2**53 + 1, 2**63, -(2**63) - 1),
    *(10**40, "", " ", "0", "null", "NaN", "-1", "1e999", "\x00", "\ud800", "🙂" * 50, "a" * 5_000),
    *([], {}, [None], [[]], [{}], {"": None}, {"type": None}, {"content": []}, [[[[[[]]]]]]),
    *(
        "<script>alert(1)</script>",
        "../../etc/passwd",
        "2026-13-45T99:99:99Z",
        "=cmd|' /C calc'!A0",
    ),
)


def flip(data: bytes, chance: Chance) -> bytes:
    """Some bytes are others."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def cut(data: bytes, chance: Chance) -> bytes:
    """The file ends early, or begins late."""
    at = chance.randrange(len(data) + 1)
    return data[:at] if chance.random() < 0.8 else data[at:]


def move_lines(data: bytes, chance: Chance) -> bytes:
    """Lines are missing, doubled or in another order."""
    lines = data.split(b"\n")
    for _ in range(chance.randint(1, 4)):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(3):
            case 0 if len(lines) > 1:
                del lines[at]
            case 1:
                lines.insert(other, lines[at])
            case _:
                lines[at], lines[other] = lines[other], lines[at]
            # (a file of one line has nothing to lose)
    return b"\n".join(lines)


def swap_types(data: bytes, chance: Chance) -> bytes:
    """Values of JSON are of other types, gone, doubled or exchanged, in one line or the whole."""
    try:
        return _in_json(data, chance)
    except (ValueError, RecursionError):
        lines = data.split(b"\n")
        at = chance.randrange(len(lines))
        try:
            lines[at] = _in_json(lines[at], chance)
        except (ValueError, RecursionError):
            return flip(data, chance)
        return b"\n".join(lines)


def _in_json(data: bytes, chance: Chance) -> bytes:
    value = json.loads(data)
    places = list(_places(value))
    for _ in range(min(len(places), chance.randint(1, 3))):
        holder, key = chance.choice(places)
        other, other_key = chance.choice(places)
        if not _is_there(holder, key) or not _is_there(other, other_key):
            continue
        match chance.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, json.loads(json.dumps(holder[key])))
            case 2:
                holder[key] = json.loads(json.dumps(other[other_key]))
            case 3 if isinstance(holder, dict):
                renamed = f"{chance.choice(list(holder))}_"
                holder[renamed] = holder.pop(key)
            case _:
                holder[key] = chance.choice(HOSTILE)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _is_there(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            items = holder.items() if isinstance(holder, dict) else enumerate(holder)
            for key, inner in items:
                yield holder, key
                if isinstance(inner, dict | list):
                    waiting.append(inner)


_PIECES = (
    *(
        b"\0",
        b"\0" * 700,
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\r",
        b"\xff\xfe",
        b"\xc3\x28",
        b"\xed\xa0\x80",
    ),
    *(b"[" * 100_000, b'{"a":' * 20_000, b"9" * 5_000, b"-", b"1e99999", b"NaN", b"Infinity"),
    *(b'"', b"\\", b"\\u0000", b"\\ud83d", b"}", b"]", b",", b"{}", b"\n\n\n", b" " * 20_000),
    *(
        b"\x1b[2J",
        "\u202e\u2028".encode(),
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"\x28\xb5\x2f\xfd",
        b"---\n",
    ),
)


def insert(data: bytes, chance: Chance) -> bytes:
    """Something stands where nothing of the kind should: zeros, marks, brackets without end."""
    at = chance.choice((0, len(data), chance.randrange(len(data) + 1)))
    return data[:at] + chance.choice(_PIECES) + data[at:]


def other_line_ends(data: bytes, chance: Chance) -> bytes:
    """Lines as Windows or an old Mac ends them."""
    return data.replace(b"\n", chance.choice((b"\r\n", b"\r", b"\n\n")))


def huge_numbers(data: bytes, chance: Chance) -> bytes:
    """A number in the file is one that no column holds."""
    digits = [at for at, byte in enumerate(data[:20_000]) if 48 <= byte <= 57]
    if not digits:
        return flip(data, chance)
    at = chance.choice(digits)
    number = chance.choice((b"9" * 30, b"1e400", b"-1", b"0.1", b"99999999999999999999", b"00"))
    return data[:at] + number + data[at + 1 :]


def repack(data: bytes, chance: Chance) -> bytes:
    """An archive of which a member is damaged, missing or doubled; anything else is packed by gzip."""
    if data[:4] != b"PK\x03\x04":
        packed = gzip.compress(data, 1)
        return chance.choice((packed, cut(packed, chance), flip(packed, chance)))
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        hit = chance.choice(old.namelist() or [""])
        for name in old.namelist():
            content = old.read(name)
            if name == hit:
                mutation = chance.choice((*ON_TEXT, None))
                if mutation is None:
                    continue
                content = mutation(content, chance)
            new.writestr(name, content)
    return out.getvalue()


ON_TEXT: tuple[Mutation, ...] = (
    *(swap_types, swap_types, swap_types, flip, cut, move_lines),
    *(insert, other_line_ends, huge_numbers),
)
MUTATIONS: tuple[Mutation, ...] = (*ON_TEXT, repack)


def mutated(number: int) -> tuple[Sample, bytes, list[str]]:
    """The input of that number: a sample, what became of it, and by which mutations."""
    chance = random.Random(number)
    names = sorted({sample.format for sample in samples()})
    name = names[number % len(names)]
    sample = chance.choice([sample for sample in samples() if sample.format == name])
    data, done = sample.data, list[str]()
    for _ in range(chance.choice((1, 1, 2, 3))):
        mutation = chance.choice(MUTATIONS)
        if mutation is not repack and data[:4] == b"PK\x03\x04" and chance.random() < 0.7:
            mutation = repack  # what stands inside is more worth a try than the archive's own bytes
        try:
            data = mutation(data, chance)
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError):
            data = flip(data, chance)  # an archive that the one before has damaged
        done.append(mutation.__name__)
    return sample, data, done


# ---------------------------------------------------------------------- what must hold


def check(name: str, data: bytes, others: Iterable[tuple[str, bytes]] = ()) -> str:
    """Load one input, with the ``others`` of its folder; ``read``, ``problem`` or the first line of a stumbling format's complaint.

    Raises ``Broken`` where something that must hold does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        for other, content in others:
            beside = Path(folder, other)
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            path = Path(folder)
        before = _peak_megabytes()
        try:
            with _time_limit():
                fate = _loaded(path)
        except _Hung:
            raise Broken(f"takes longer than {SECONDS} s") from None
        except Broken:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it is a crash
            raise Broken(f"crashes:\n{traceback.format_exc()}") from None
    grown = _peak_megabytes() - before
    if grown > MEGABYTES:
        raise Broken(f"takes {grown:.0f} MB of memory")
    return fate


def _loaded(path: Path) -> str:
    try:
        runs = loaders.load(path, progress=False)
    except LoadError as error:
        if path.name not in str(error) and not str(error).startswith("Nothing could be read"):
            raise Broken(f"does not name the file: {error}") from None
        return "problem"
    case = battery.case_of("fuzzed", path, runs)
    names = set(case.trajectories["format"])
    declared = battery.exceptions()
    for rule in RULES:
        if any((rule.__name__, name) in declared for name in names):
            continue
        try:
            rule(case)
        except AssertionError as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise Broken(f"breaks {rule.__name__} (line {place.lineno}): {error}") from None
    card = runs.summary  # worked out once for both of its forms
    assert card.as_text()
    assert card.as_html()
    stumbled = (
        case.problems["reason"].str.extract(rf"^(.*{battery.FORMAT_CODE.pattern})").drop_nulls()
    )
    return f"stumbles: {stumbled[0]}" if len(stumbled) else "read"


class _time_limit:  # noqa: N801 - reads like the function that it stands for
    def __enter__(self) -> None:
        def hung(*_: Any) -> None:
            raise _Hung

        self._before = signal.signal(signal.SIGPROF, hung)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        faulthandler.dump_traceback_later(30 * SECONDS, exit=True)  # where no Python is reached

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, self._before)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
