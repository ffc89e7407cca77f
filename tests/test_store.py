"""A store that ``convert`` writes: the same runs as ``load`` gives, taken in bit by bit."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import chatter
import polars as pl
import pytest
from conftest import ROOT

import loaders
from loaders import DerailError, LoadError, Trajectories, converting, shards
from loaders.formats import _template
from loaders.logs import _BYTES_PER_FILE as BYTES_PER_FILE
from loaders.schema import TABLES

SAMPLES = [
    *sorted(path for path in (ROOT / "sample_logs" / "frameworks").iterdir() if path.is_dir()),
    ROOT / "sample_logs" / "study",
]


def table_of(runs: Trajectories, name: str) -> pl.DataFrame:
    """A table in which only the numbers of the runs may differ from one set to another."""
    table = getattr(runs, name).collect()
    if name == "problems":  # in which order they are found out depends on what is read together
        return table.sort(table.columns)
    return table.drop("run", strict=False)


def assert_same(store: Trajectories, loaded: Trajectories) -> None:
    for name in TABLES:
        one, other = table_of(store, name), table_of(loaded, name)
        assert one.schema == other.schema, name
        assert one.equals(other), name


def assert_holds_its_word(store: Trajectories) -> None:
    """Runs ascend, stand together, and are in every table the same ones."""
    runs = store.trajectories.collect()
    assert runs["run"].is_unique().all()
    assert not (runs["run"].diff() < 0).any()
    assert runs["trajectory_id"].is_unique().all()
    for name, count in (("steps", "steps"), ("events", "events")):
        table = getattr(store, name).select("run", "trajectory_id").collect()
        assert not (table["run"].diff() < 0).any(), name
        rows = table.group_by("run", "trajectory_id").len("rows")
        told = runs.select("run", "trajectory_id", count).filter(pl.col(count) > 0)
        joined = told.join(rows, on=["run", "trajectory_id"], how="full")
        assert (joined[count] == joined["rows"]).all(), name
        assert joined.null_count().sum_horizontal().item() == 0, name


def convert(src: Any, store: Path, **options: Any) -> Trajectories:
    runs = loaders.convert(src, store, **options)
    assert_holds_its_word(runs)
    return runs


def small_shards(monkeypatch: pytest.MonkeyPatch, files: int = 3) -> None:
    monkeypatch.setattr(converting, "_BYTES_PER_SHARD", files * BYTES_PER_FILE)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for arm in ("kept", "dropped"):
        for number in range(4):
            log = chatter.lines(f"{arm} {number}", 2 + number, tools=[{"name": arm}])
            chatter.write(tmp_path / "logs" / arm / f"{number}.jsonl", log)
    (tmp_path / "logs" / "broken.jsonl").write_text('{"chatter": 1}\noops\n')
    (tmp_path / "logs" / "notes.txt").write_text("no log")
    return tmp_path / "logs"


@pytest.fixture
def chatting(tmp_path: Path) -> Any:
    with chatter.installed(tmp_path):
        yield


# ---------------------------------------------------------------------- the same as load


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda path: path.name)
def test_a_store_holds_what_load_gives(folder: Path, tmp_path: Path) -> None:
    assert_same(convert(folder, tmp_path / "store"), loaders.load(folder))


def test_all_samples_in_many_shards_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "_IN_THIS_PROCESS_BELOW", 0)
    monkeypatch.setattr(converting, "_BYTES_PER_SHARD", 1 << 20)
    folder = ROOT / "sample_logs" / "frameworks"
    runs = convert(folder, tmp_path / "store")
    assert len(list((tmp_path / "store" / "shards").iterdir())) > 5
    assert_same(runs, loaders.load(folder))


def test_labels_of_a_template_are_columns(logs: Path, tmp_path: Path, chatting: None) -> None:
    pattern = f"{logs}/{{arm}}/{{trial}}.jsonl"
    runs = convert(pattern, tmp_path / "store")
    assert_same(runs, loaders.load(pattern))
    assert set(runs.trajectories.collect()["arm"]) == {"kept", "dropped"}
    split = convert(f"{logs}/{{split}}/*.jsonl", tmp_path / "store")
    assert split.labels == ["split"]  # what the latest call says
    with pytest.raises(LoadError, match="'dropped' is no value for the column 'outcome'"):
        loaders.convert(f"{logs}/{{outcome}}/*.jsonl", tmp_path / "other")


def test_copies_in_different_shards_are_told_apart(
    logs: Path, tmp_path: Path, chatting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    shutil.copytree(logs / "kept", logs / "zcopy")
    runs = convert(logs, tmp_path / "store")
    assert_same(runs, loaders.load(logs))
    assert runs.problems.filter(pl.col("reason").str.contains("loaded twice")).collect().height == 4
    copy = runs.ids[-1]
    assert runs[copy].events.collect()["trajectory_id"].unique().to_list() == [copy]
    (logs / "kept" / "0.jsonl").write_bytes(chatter.text(chatter.lines("other")))
    changed = convert(logs, tmp_path / "store")
    assert (
        changed.problems.filter(pl.col("reason").str.contains("loaded twice")).collect().height == 3
    )


def test_a_module_of_the_users_own(logs: Path, tmp_path: Path) -> None:
    runs = convert(logs / "kept", tmp_path / "store", format=_template)
    assert_same(runs, loaders.load(logs / "kept", format=_template))


def test_long_sources_are_written_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loaders import builder

    line = {"messages": [{"role": "user", "content": "x" * 200}] * 20}
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({**line, "task_id": str(n)}) + "\n" for n in range(4_000)))
    loaded = loaders.load(path)
    monkeypatch.setattr(builder, "_BYTES_PER_CHUNK", 4 << 20)
    assert_same(convert(path, tmp_path / "store"), loaded)
    assert len(list((tmp_path / "store").glob("shards/*/events-*.parquet"))) >= 4


def test_a_long_run_is_written_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loaders import builder

    for name, turns in (("a", 3), ("long", 2_000), ("z", 2)):
        chatter.write(tmp_path / "logs" / f"{name}.jsonl", chatter.lines(name, turns))
    loaded = loaders.load(tmp_path / "logs", format=_template)
    monkeypatch.setattr(builder, "_ROWS_PER_CHUNK", 500)
    monkeypatch.setattr(builder, "_BYTES_PER_CHUNK", 1)
    runs = convert(tmp_path / "logs", tmp_path / "store", format=_template)
    assert_same(runs, loaded)
    long = runs[runs.ids[1]]
    assert_same(long, loaded[loaded.ids[1]])
    pieces = [
        pl.read_parquet(file)["run"].unique().len()
        for file in sorted((tmp_path / "store").glob("shards/*/events-*.parquet"))
    ]
    assert len(pieces) > 5
    assert sum(pieces) > 3 + 5  # the long run lies in several
    assert sum(len(part) for part in runs.parts(events=100)) == 3


def test_what_can_not_be_handed_over_is_no_problem_of_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loaders import builder

    chatter.write(tmp_path / "logs" / "long.jsonl", chatter.lines("long", 2_000))
    monkeypatch.setattr(builder, "_ROWS_PER_CHUNK", 500)
    monkeypatch.setattr(builder, "_BYTES_PER_CHUNK", 1)
    write_frame, written = shards.write_frame, []

    def full(frame: pl.DataFrame, path: Path) -> None:
        written.append(path.name)
        if path.name == "events-00002.parquet":
            raise OSError(28, "No space left on device")
        write_frame(frame, path)

    monkeypatch.setattr(shards, "write_frame", full)
    with pytest.raises(DerailError, match="No space left on device"):
        loaders.convert(tmp_path / "logs", tmp_path / "store", format=_template)
    assert written[-1] == "events-00002.parquet"  # and nothing after it


# ---------------------------------------------------------------------- again and again


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the logs that are read while the test goes on."""
    seen: list[str] = []
    read_source = shards.read_source

    def spy(chosen: Any, sources: Any, *more: Any, **options: Any) -> None:
        seen.append("/".join(sources[0].name.split("/")[-2:]))
        read_source(chosen, sources, *more, **options)

    monkeypatch.setattr(shards, "read_source", spy)
    return seen


def test_a_second_call_reads_only_what_is_new_or_changed(
    logs: Path, tmp_path: Path, chatting: None, reads: list[str]
) -> None:
    store = tmp_path / "store"
    before = convert(logs, store)
    assert len(reads) == 9
    reads.clear()
    convert(logs, store)  # compares bytes, for the logs were written just now
    manifest = (store / "derail.json").read_bytes()
    convert(logs, store)
    assert reads == []
    assert (store / "derail.json").read_bytes() == manifest
    chatter.write(logs / "kept" / "new.jsonl")
    chatter.write(logs / "kept" / "1.jsonl", turns=9)
    os.utime(logs / "kept" / "2.jsonl")  # touched, with the same bytes
    after = convert(logs, store)
    assert reads == ["kept/1.jsonl", "kept/new.jsonl"]
    expected = loaders.load(logs)
    assert sorted(after.ids) == sorted(expected.ids)
    by_id = [table_of(runs, "events").sort("trajectory_id", "seq") for runs in (after, expected)]
    assert by_id[0].equals(by_id[1])
    assert table_of(after, "problems").equals(table_of(expected, "problems"))
    assert before.events.collect().height < after.events.collect().height  # both can be read
    reads.clear()
    convert(logs, store, resume=False)
    assert len(reads) == 10


def test_a_file_that_is_written_on_within_one_tick_is_noticed(
    tmp_path: Path, chatting: None, reads: list[str]
) -> None:
    path = chatter.write(tmp_path / "logs" / "a.jsonl")
    status = path.stat()
    first = convert(tmp_path / "logs", tmp_path / "store")
    path.write_bytes(path.read_bytes().replace(b"Do a.", b"Do b."))  # as long, and as old
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = convert(tmp_path / "logs", tmp_path / "store")
    assert first.ids != second.ids
    assert reads == ["logs/a.jsonl"] * 2


def test_logs_that_are_gone_or_not_named_keep_their_runs(
    logs: Path, tmp_path: Path, chatting: None
) -> None:
    store = tmp_path / "store"
    both = convert(logs, store)
    shutil.rmtree(logs / "kept")
    assert convert(logs, store).ids == both.ids
    chatter.write(tmp_path / "more" / "x.jsonl", turns=5)
    more = convert(tmp_path / "more", store)
    assert more.ids[:-1] == both.ids
    assert len(more) == len(both) + 1


def test_what_was_no_log_and_now_is(logs: Path, tmp_path: Path, chatting: None) -> None:
    store = tmp_path / "store"
    convert(logs, store)
    (logs / "notes.txt").write_bytes(chatter.text(chatter.lines("now a log")))
    (logs / "kept" / "3.jsonl").write_text("now none")
    after = convert(logs, store)
    expected = loaders.load(logs)
    assert sorted(after.ids) == sorted(expected.ids)
    assert table_of(after, "problems").equals(table_of(expected, "problems"))


def test_members_of_archives_are_followed(tmp_path: Path, chatting: None, reads: list[str]) -> None:
    def pack(**turns: int) -> None:
        (tmp_path / "logs").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / "logs" / "runs.zip", "w") as archive:
            for name, count in turns.items():
                archive.writestr(f"{name}.jsonl", chatter.text(chatter.lines(name, count)))

    store = tmp_path / "store"
    pack(a=2, b=3)
    convert(tmp_path / "logs", store)
    convert(tmp_path / "logs", store)
    assert len(reads) == 2
    pack(a=2, c=4)
    after = convert(tmp_path / "logs", store)
    assert sorted(after.trajectories.collect()["native_id"]) == ["a", "c"]
    assert_same(after, loaders.load(tmp_path / "logs"))
    part = convert(f"{tmp_path}/logs/runs.zip/{{task_id}}.jsonl", tmp_path / "other")
    assert sorted(part.trajectories.collect()["task_id"]) == ["a", "c"]
    whole = convert(tmp_path / "logs", tmp_path / "other")
    assert sorted(whole.trajectories.collect()["native_id"]) == ["a", "c"]


WITH_SCORES = """
TITLE = "runs with scores beside them"
sniff = lambda head: "scored" in head.keys
companion = lambda head: "points" in head.keys
def read(source, out):
    beside = source.beside("score.json")
    run = out.trajectory(native_id=source.json()["scored"])
    run.outcome(score=beside.json()["points"] if beside else None)
    run.user("go")
"""


def test_a_log_is_read_again_if_a_file_beside_it_changes_comes_or_goes(
    tmp_path: Path, reads: list[str]
) -> None:
    folders = [tmp_path / "logs" / name for name in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"scored": folder.name}))
    score = folders[0] / "score.json"
    with chatter.installed(tmp_path, "scores", code=WITH_SCORES, module="scores_package"):
        for points, expected in ((None, 2), (0.5, 1), (0.5, 0), (0.75, 1), (None, 1)):
            if points is None:
                score.unlink(missing_ok=True)
            elif expected:
                score.write_text(json.dumps({"points": points}))
            reads.clear()
            runs = convert(tmp_path / "logs", tmp_path / "store")
            assert_same(runs.filter(native_id="a"), loaders.load(folders[0]))
            assert runs.filter(native_id="a").trajectories.collect()["score"].item() == points
            assert len(reads) == expected
        (folders[1] / "deeper").mkdir()
        (folders[1] / "deeper" / "score.json").write_text('{"points": 1}')
        told = convert(tmp_path / "logs", tmp_path / "store").problems.collect()
        assert "not loaded with it" in told["reason"].item()


# ---------------------------------------------------------------------- the same API


def test_a_store_is_used_like_what_is_loaded(
    logs: Path, tmp_path: Path, chatting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    runs = convert(f"{logs}/{{arm}}/*.jsonl", tmp_path / "store")
    loaded = loaders.load(f"{logs}/{{arm}}/*.jsonl")
    assert repr(runs) == repr(loaded)
    assert_same(runs.filter(arm="kept"), loaded.filter(arm="kept"))
    assert_same(runs[runs.ids[5]], loaded[runs.ids[5]])
    assert_same(runs.filter(outcome="limit"), loaded.filter(outcome="limit"))
    mine = pl.DataFrame({"trajectory_id": runs.ids[:2], "split": ["a", "b"]})
    assert_same(runs.label(mine, on="trajectory_id"), loaded.label(mine, on="trajectory_id"))
    one, rest = runs.filter(runs.ids[:3]), runs.filter(runs.ids[3:])
    both = loaded.filter(runs.ids[:3]) + loaded.filter(runs.ids[3:])
    assert_same(one + rest, both)
    assert runs.raw(runs.ids[4], 1) == loaded.raw(runs.ids[4], 1)
    saved = loaders.scan(runs.save(tmp_path / "saved"))
    assert_same(saved, loaded)


def test_one_run_opens_one_shard_and_per_run_analyses_stream(
    logs: Path, tmp_path: Path, chatting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch, files=1)
    runs = convert(logs, tmp_path / "store")
    plan = runs[runs.ids[3]].events.explain()
    assert plan.count(".parquet") == 1
    assert "other sources" not in plan
    per_run = runs.events.group_by("run").agg(pl.col("seq").median(), pl.col("kind").implode())
    graph: Any = per_run.show_graph(plan_stage="physical", engine="streaming", raw_output=True)
    assert "sorted-group-by" in graph
    assert "in-memory" not in graph.split("}")[0].split("Legend")[-1].partition("label=")[2]


# ---------------------------------------------------------------------- refusals


def test_nothing_but_stores_is_written_into(logs: Path, tmp_path: Path, chatting: None) -> None:
    with pytest.raises(DerailError, match="no store of Derail; give another folder"):
        loaders.convert(logs, logs)
    with pytest.raises(DerailError, match="is a file"):
        loaders.convert(logs, logs / "notes.txt")
    saved = loaders.load(logs).save(tmp_path / "saved")
    with pytest.raises(DerailError, match=r"was written by save\(\)"):
        loaders.convert(logs, saved)


def test_nothing_readable_is_said_as_load_says_it(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.txt").write_text("no log")
    with pytest.raises(LoadError, match=r"(?s)Nothing could be read.*a.txt: no known format"):
        loaders.convert(tmp_path / "logs", tmp_path / "store")
    with pytest.raises(LoadError, match="no store of Derail"):
        loaders.scan(tmp_path / "store")


def test_a_store_inside_the_folder_of_logs_is_no_log(logs: Path, chatting: None) -> None:
    before = convert(logs, logs / "store")
    assert convert(logs, logs / "store").ids == before.ids
    assert "derail" not in "".join(before.problems.collect()["source"])


def test_any_executor_will_do(logs: Path, tmp_path: Path, chatting: None) -> None:
    with ThreadPoolExecutor(2) as executor:
        runs = convert(logs, tmp_path / "store", executor=executor)
    assert_same(runs, loaders.load(logs))
