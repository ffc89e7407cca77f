"""What was found in a store is kept beside it, and no longer found when runs or rules are others."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

import loaders
from analysis import behaviour, perturbation_rules, perturbations, remembered
from loaders import Trajectories
from loaders.trajectories import stored_content

LOGS = "sample_logs/study/none/planner-1/inspect/returned_error.eval"
OTHERS = "sample_logs/study/none/planner-1/inspect/timeout.eval"


@pytest.fixture(scope="module")
def runs() -> Trajectories:
    return loaders.load(LOGS)


@pytest.fixture
def store(runs: Trajectories, tmp_path: Path) -> Path:
    return runs.save(tmp_path / "store")


def kept(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "found").glob("*"))


def refused(table: pl.DataFrame) -> pl.DataFrame:
    raise AssertionError(f"{table.height} responses were looked at again")


def test_another_set_of_the_same_store_reads_what_was_found(
    runs: Trajectories, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = perturbations.detect(loaders.scan(store))
    assert found.equals(perturbations.detect(runs))
    assert len(kept(store)) == 1
    monkeypatch.setattr(perturbation_rules, "first_look", refused)
    assert perturbations.detect(loaders.scan(store)).equals(found)
    with pytest.raises(AssertionError, match="looked at again"):
        perturbations.detect(loaders.load(LOGS))


def test_codes_of_ones_own_are_never_kept(store: Path) -> None:
    without = perturbations.detect(loaders.scan(store))
    perturbations.define("of_mine", "")
    try:
        assert "of_mine" in perturbations.detect(loaders.scan(store))["code"]
    finally:
        perturbations.undefine("of_mine")
    assert perturbations.detect(loaders.scan(store)).equals(without)


def test_a_part_of_a_store_is_looked_at(store: Path) -> None:
    every = loaders.scan(store)
    found = perturbations.detect(every)
    some = every.filter(every.ids[::3])
    assert stored_content(some) is None
    assert perturbations.detect(some).equals(
        found.filter(pl.col("trajectory_id").is_in(some.ids)).cast(found.schema)
    )
    assert len(kept(store)) == 1


def test_other_runs_in_the_same_folder_are_looked_at(runs: Trajectories, store: Path) -> None:
    perturbations.detect(loaders.scan(store))
    before = kept(store)
    others = loaders.load(OTHERS)
    others.save(store)
    assert perturbations.detect(loaders.scan(store)).equals(perturbations.detect(others))
    assert len(kept(store)) == 1
    assert kept(store) != before


def test_a_conversion_that_adds_runs_is_looked_at(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = loaders.convert(LOGS, store, progress=False)
    assert len(perturbations.detect(first)) == len(perturbations.detect(loaders.scan(store)))
    both = loaders.convert([LOGS, OTHERS], store, progress=False)
    in_memory = perturbations.detect(loaders.load([LOGS, OTHERS]))
    assert len(in_memory) > len(perturbations.detect(first))
    key = ["trajectory_id", "seq", "code", "evidence", "rule", "cause", "primary"]
    assert perturbations.detect(both).select(key).sort(key).equals(in_memory.select(key).sort(key))
    assert len(kept(store)) == 1


def test_other_rules_look_again(store: Path, tmp_path: Path) -> None:
    """The file's name holds a digest of the modules that the result comes from."""
    modules = [tmp_path / "one.py", tmp_path / "two.py"]
    names = set[str]()
    for text in ("A = 1", "A = 1", "A = 2"):
        for module in modules:
            module.write_text(text)
        remembered._source_of.cache_clear()
        module = type(remembered)("one")
        module.__file__ = str(modules[0])
        place = remembered._place(loaders.scan(store), "x", (module,), "")
        assert place is not None
        names.add(place.name)
    assert len(names) == 2


def test_what_was_kept_and_is_damaged_is_found_again(store: Path) -> None:
    found = perturbations.detect(loaders.scan(store))
    path = store / "found" / kept(store)[0]
    path.write_bytes(path.read_bytes()[:-20])
    assert perturbations.detect(loaders.scan(store)).equals(found)
    assert pl.read_parquet(path).equals(found)


def test_a_store_that_can_not_be_written_is_looked_at(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(frame: pl.DataFrame, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", no_room)
    assert perturbations.detect(loaders.scan(store)).height
    assert kept(store) == []


def test_what_runs_did_is_kept_for_each_way_to_ask(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"window": 10}, {"window": 3}, {"ignore": ("get_order",)}
    first = [behaviour.rates(loaders.scan(store), by=None, **options) for options in asked]
    assert len({name for name in kept(store) if name.startswith("behaviour")}) == 3
    assert not first[0].frame.equals(first[1].frame)
    assert not first[0].frame.equals(first[2].frame)
    monkeypatch.setattr(behaviour, "look", None)
    for found, options in zip(first, asked, strict=True):
        again = behaviour.rates(loaders.scan(store), by=None, **options)
        assert again.frame.equals(found.frame)
        assert again.members.equals(found.members)


def test_how_runs_ended_is_no_part_of_what_is_kept(store: Path) -> None:
    """Labels tell outcomes anew; what the events show stays."""
    runs = loaders.scan(store)
    behaviour.rates(runs, by=None)
    before = kept(store)
    cut_off = pl.DataFrame({"trajectory_id": runs.ids, "outcome": "limit"})
    labelled = runs.label(cut_off, on="trajectory_id")
    found = behaviour.rates(labelled, by=None).frame.filter(signal="premature_stop")
    assert found["runs"].item() == 0
    assert behaviour.premature_stops(labelled)["premature_stop"].null_count() == len(runs)
    assert kept(store) == before


def test_of_what_older_rules_found_only_some_stays(store: Path) -> None:
    perturbations.detect(loaders.scan(store))
    found = store / "found" / kept(store)[0]
    name, content, _ = found.name.split("-")
    found.unlink()
    older = [found.with_name(f"{name}-{content}-{number:016x}.parquet") for number in range(20)]
    for number, path in enumerate(older):
        path.write_bytes(b"")
        os.utime(path, (number, number))
    other = found.with_name(f"another-{content}-0.parquet")
    other.write_bytes(b"")
    perturbations.detect(loaders.scan(store))
    left = {*kept(store)}
    assert {found.name, other.name, older[-1].name} <= left
    assert older[0].name not in left
    assert len(left) == remembered._MOST_KEPT + 1
