"""A set of runs, in memory and scanned from a store: choose, label, add, look closer, keep."""

from __future__ import annotations

import functools
import operator
import os
from pathlib import Path
from typing import Any

import chatter
import polars as pl
import pytest

import loaders
from loaders import DerailError, LoadError, Trajectories, UnreadableRecord
from loaders.formats import _template
from loaders.schema import SCHEMA_VERSION, TABLES
from loaders.trajectories import FILLABLE


def load(path: Path | str) -> Trajectories:
    return loaders.load(path, format=_template)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for arm, turns in (("kept", 2), ("dropped", 3)):
        for number in range(3):
            log = chatter.lines(
                f"{arm}{number}", turns, tools=[{"name": arm}], model=f"m-{number % 2}"
            )
            if number == 2:
                log = log[:-1]  # nothing is known of its end
            chatter.write(tmp_path / "logs" / arm / f"{number}.jsonl", log)
    (tmp_path / "logs" / "broken.jsonl").write_text('{"chatter": 1}\noops\n')
    return tmp_path / "logs"


@pytest.fixture(params=["in memory", "scanned"])
def runs(request: pytest.FixtureRequest, logs: Path, tmp_path: Path) -> Trajectories:
    loaded = load(f"{logs}/**/*.jsonl")
    return loaded if request.param == "in memory" else loaders.scan(loaded.save(tmp_path / "store"))


def tables_of(runs: Trajectories) -> dict[str, pl.DataFrame]:
    return {name: getattr(runs, name).collect() for name in TABLES}


def assert_same(one: Trajectories, other: Trajectories) -> None:
    others = tables_of(other)
    for name, table in tables_of(one).items():
        assert table.schema == others[name].schema
        assert table.equals(others[name]), name


# ---------------------------------------------------------------------- what a user sees


def test_only_what_is_public_shows_on_tab(runs: Trajectories) -> None:
    public = {name for name in dir(runs) if not name.startswith("_")}
    tables = {"trajectories", "steps", "events", "tools", "problems"}
    assert public == tables | {
        "ids",
        "labels",
        "filter",
        "label",
        "raw",
        "save",
        "summary",
        "from_frames",
        "clustered",
        "parts",
        "stored_at",
        "with_steps",
    }
    for name in public:
        assert getattr(Trajectories, name).__doc__


def test_ids_complete_in_brackets(runs: Trajectories) -> None:
    from IPython.core.completer import IPCompleter, provisionalcompleter
    from IPython.core.interactiveshell import InteractiveShell

    assert runs._ipython_key_completions_() == runs.ids
    shell = InteractiveShell()
    shell.user_ns["runs"] = runs
    completer = IPCompleter(shell=shell, namespace=shell.user_ns, use_jedi=False)
    typed = f'runs["{runs.ids[0][:4]}'
    with provisionalcompleter():
        matches = [completion.text for completion in completer.completions(typed, len(typed))]
    assert any(runs.ids[0] in match for match in matches)


def test_the_tables_are_lazy_and_hold_the_schema(runs: Trajectories) -> None:
    for name, schema in TABLES.items():
        table = getattr(runs, name)
        assert isinstance(table, pl.LazyFrame)
        assert table.collect_schema() == schema
    assert len(runs) == 7
    assert len(runs.ids) == 7
    assert runs.labels == []
    assert runs.summary.runs == 7
    assert repr(runs).startswith("Trajectories: 7 runs")
    assert "7 runs" in runs._repr_html_()


# ---------------------------------------------------------------------- choose


def test_filters_by_value_list_id_null_and_expression(runs: Trajectories) -> None:
    assert len(runs.filter()) == 7
    assert len(runs.filter(outcome="success")) == 4
    assert len(runs.filter(model=["m-0", "m-9"])) == 4
    assert len(runs.filter(model=("m-0",), success=True)) == 2
    assert len(runs.filter(success=None)) == 3
    assert len(runs.filter(success=[None, True])) == 7
    assert len(runs.filter(pl.col("steps") == 3, success=True)) == 2
    assert runs.filter(runs.ids[2:4]).ids == runs.ids[2:4]
    assert runs.filter(runs.ids[3]).ids == runs.ids[3:4]
    assert runs.filter(pl.Series(runs.ids[:2])).ids == runs.ids[:2]
    assert len(runs.filter(["absent"])) == 0


def test_steps_and_events_follow_the_runs(runs: Trajectories) -> None:
    some = runs.filter(runs.ids[1::2])
    for table in (some.steps, some.events):
        assert table.collect()["trajectory_id"].unique(maintain_order=True).to_list() == some.ids
    assert some.events.collect()["seq"].to_list() == functools.reduce(
        operator.iadd, (list(range(n)) for n in some.trajectories.collect()["events"]), []
    )
    nothing = runs.filter(outcome="limit")
    assert nothing.ids == []
    assert nothing.events.collect().is_empty()
    assert repr(nothing).startswith("Trajectories: 0 runs")
    assert nothing._repr_html_()
    assert len(runs.filter(model="m-1").filter(steps=3)) == 1


def test_an_unknown_column_is_named(runs: Trajectories) -> None:
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="modell"):
        runs.filter(modell="m-0")


def test_one_run_by_its_id(runs: Trajectories) -> None:
    name = runs.ids[4]
    one = runs[name]
    assert one.ids == [name]
    assert one.events.collect()["trajectory_id"].unique().to_list() == [name]
    with pytest.raises(KeyError, match=f"Did you mean '{name}'"):
        runs[name[:-1] + "0"]
    with pytest.raises(KeyError, match=r"All ids are in runs\.ids"):
        runs["?"]


# ---------------------------------------------------------------------- label and add


def test_labels_add_columns_and_fill_known_ones(runs: Trajectories) -> None:
    mine = pl.DataFrame(
        {
            "trajectory_id": runs.ids[:2],
            "split": ["pilot", "main"],
            "arm": ["a", None],
            "score": [1, 2],
        }
    )
    labelled = runs.label(mine, on="trajectory_id")
    table = labelled.trajectories.collect()
    assert labelled.labels == ["split"]
    assert table["split"].to_list()[:3] == ["pilot", "main", None]
    assert table["arm"].to_list()[:2] == ["a", None]
    before = runs.trajectories.collect()["score"].to_list()
    assert table["score"].to_list() == [1.0, 2.0, *before[2:]]
    assert labelled.ids == runs.ids
    assert len(labelled.filter(split="pilot")) == 1
    assert runs.labels == []
    by_two = pl.LazyFrame({"model": ["m-0"], "steps": [3], "group": [1]})
    assert len(runs.label(by_two, on=["model", "steps"]).filter(group=1)) == 2
    again = labelled.label(pl.DataFrame({"model": ["m-0"], "split": ["late"]}), on="model")
    assert again.trajectories.collect()["split"].to_list().count("late") == 4


def test_labels_that_can_not_be_are_refused(runs: Trajectories) -> None:
    twice = pl.DataFrame({"model": ["m-0", "m-0"], "x": [1, 2]})
    with pytest.raises(DerailError, match="one row for each"):
        runs.label(twice, on="model")
    for name in ("run", "source", "steps"):
        with pytest.raises(LoadError, match=f"can't be called '{name}'"):
            runs.label(pl.DataFrame({"model": ["m-0"], name: [1]}), on="model")
    with pytest.raises(LoadError, match="'won' is no value for the column 'outcome'"):
        runs.label(pl.DataFrame({"model": ["m-0"], "outcome": ["won"]}), on="model")
    assert set(FILLABLE) <= set(TABLES["trajectories"])


def test_sets_add_up(runs: Trajectories) -> None:
    one, two = runs.filter(runs.ids[::2]), runs.filter(runs.ids[1::2])
    both = one + two
    assert both.ids == one.ids + two.ids
    assert both.trajectories.collect()["run"].is_unique().all()
    assert both.events.collect()["run"].is_sorted()
    assert both.events.collect().height == runs.events.collect().height
    assert both.tools.collect().height == runs.tools.collect().height
    name = two.ids[1]
    assert (
        both[name].events.collect()["text"].to_list()
        == runs[name].events.collect()["text"].to_list()
    )
    with pytest.raises(DerailError, match=r"1 runs are in both sets.*filter them out of one"):
        _ = one + runs.filter(one.ids[:1])


def test_labels_of_either_set_survive_adding(runs: Trajectories) -> None:
    def labelled(some: Trajectories, **columns: Any) -> Trajectories:
        return some.label(pl.DataFrame({"trajectory_id": some.ids, **columns}), on="trajectory_id")

    one = labelled(runs.filter(runs.ids[:1]), split=["a"], size=[1])
    two = labelled(runs.filter(runs.ids[1:2]), fold=[5], size=[0.5])
    table = (one + two).trajectories.collect()
    assert table["split"].to_list() == ["a", None]
    assert table["fold"].to_list() == [None, 5]
    assert table["size"].to_list() == [1.0, 0.5]
    empty = runs.filter(outcome="limit")
    assert (empty + one).ids == one.ids
    assert (one + empty).ids == one.ids


# ---------------------------------------------------------------------- look closer


def test_raw_leads_to_the_record(runs: Trajectories) -> None:
    kept = runs.filter(model="m-1").ids[0]
    events = runs[kept].events.collect()
    for row in events.iter_rows(named=True):
        raw = runs.raw(kept, row["seq"])
        assert raw == row["text"] or raw["tool"] == row["tool"]
    with pytest.raises(KeyError, match="has no event 99"):
        runs.raw(kept, 99)
    with pytest.raises(KeyError, match="no run has the id"):
        runs.raw("absent", 0)


def test_raw_of_a_log_that_moved_says_so(runs: Trajectories, logs: Path) -> None:
    logs.rename(logs.parent / "moved")
    with pytest.raises(UnreadableRecord, match="load the logs from where they are now"):
        runs.raw(runs.ids[-1], 0)


# ---------------------------------------------------------------------- keep


def test_what_is_saved_comes_back_table_by_table(runs: Trajectories, tmp_path: Path) -> None:
    mine = pl.DataFrame({"trajectory_id": runs.ids, "fold": list(range(7))})
    labelled = runs.label(mine, on="trajectory_id")
    folder = labelled.save(tmp_path / "kept" / "store")
    again = loaders.scan(folder)
    assert again.labels == ["fold"]
    for name, table in tables_of(labelled).items():
        other = tables_of(again)[name]
        assert table.schema == other.schema
        assert table.equals(other)
    assert again.trajectories.collect_schema()["outcome"] == TABLES["trajectories"]["outcome"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_filtered_set_is_saved_as_it_is(runs: Trajectories, tmp_path: Path) -> None:
    some = runs.filter(model="m-1")
    assert_same(loaders.scan(some.save(tmp_path / "some")), some)
    nothing = runs.filter(outcome="limit")
    assert_same(loaders.scan(nothing.save(tmp_path / "nothing")), nothing)


def test_a_store_is_replaced_whole(runs: Trajectories, tmp_path: Path) -> None:
    folder = runs.save(tmp_path / "again")
    runs.filter(model="m-1").save(folder)
    assert len(loaders.scan(folder)) == len(runs.filter(model="m-1"))


def test_a_failed_save_leaves_the_old_store(
    runs: Trajectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.save(tmp_path / "again")
    broken = Trajectories(
        {**runs.filter(model="m-1")._tables, "problems": pl.LazyFrame({"a": ["x"]}).cast(pl.Int8)}
    )
    with pytest.raises(pl.exceptions.PolarsError):
        broken.save(folder)
    assert_same(loaders.scan(folder), runs)


def test_nothing_else_is_overwritten(runs: Trajectories, tmp_path: Path) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.tex").write_text("years of work")
    with pytest.raises(DerailError, match="no store of Derail; give another folder"):
        runs.save(other)
    with pytest.raises(DerailError, match="is a file; give a folder"):
        runs.save(other / "chapter1.tex")
    assert [path.name for path in other.iterdir()] == ["chapter1.tex"]


def test_a_set_is_not_saved_over_what_it_is_read_from(runs: Trajectories, tmp_path: Path) -> None:
    folder = runs.save(tmp_path / "own")
    scanned = loaders.scan(folder)
    for some in (scanned, scanned.filter(model="m-1")):
        with pytest.raises(DerailError, match="these runs are read from"):
            some.save(os.path.relpath(folder))
    assert len(loaders.scan(folder)) == 7


@pytest.mark.parametrize("manifest", ["", "[]", "{}", "no json", '{"schema_version": null}'])
def test_what_is_no_store_is_refused(manifest: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no store of Derail. load\(\) reads logs"):
        loaders.scan(tmp_path / "absent")
    (tmp_path / "derail.json").write_text(manifest)
    with pytest.raises(LoadError, match="no store of Derail"):
        loaders.scan(tmp_path)


def test_an_incomplete_store_and_one_of_another_version_are_refused(
    runs: Trajectories, tmp_path: Path
) -> None:
    folder = runs.save(tmp_path / "own")
    manifest = folder / "derail.json"
    present = f'"schema_version": {SCHEMA_VERSION}'
    for version, remedy in ((99, "pip install --upgrade"), (0, r"Load the logs and save\(\) them")):
        older = manifest.read_text().replace(present, f'"schema_version": {version}')
        (folder / "derail.json").write_text(older)
        with pytest.raises(LoadError, match=f"schema version {version}.*{remedy}"):
            loaders.scan(folder)
        runs.save(folder)
    next(folder.glob("**/events-*.parquet")).unlink()
    with pytest.raises(LoadError, match=r"is damaged: tables/events-.*\.parquet is missing"):
        loaders.scan(folder)


def test_a_store_from_before_shards_is_refused_and_replaced(
    runs: Trajectories, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for name, table in tables_of(runs).items():
        table.write_parquet(folder / f"{name}.parquet")
    (folder / "derail.json").write_text('{"store": "derail", "schema_version": 1}\n')
    with pytest.raises(LoadError, match=r"schema version 1.*Load the logs and save"):
        loaders.scan(folder)
    runs.save(folder)
    assert_same(loaders.scan(folder), runs)


def test_a_store_reads_only_the_row_groups_of_the_runs_asked_for(tmp_path: Path) -> None:
    for number in range(4):
        chatter.write(tmp_path / "logs" / f"{number}.jsonl", turns=4_000)
    scanned = loaders.scan(load(tmp_path / "logs").save(tmp_path / "store"))
    plan = scanned[scanned.ids[2]].events.explain()
    assert "is_between" in plan or ">=" in plan
    assert "SELECTION" in plan.split("SEMI JOIN", maxsplit=1)[-1]  # pushed into the scan
