"""Figures of thinking as a treatment and of where runs part: each draws what its frame says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from chats import Chat, chats
from simulate import Planted, simulate
from test_divergence import many
from test_manipulation import EXPECTED, labelled, trial
from test_onset import told

from analysis import breakdown, thinking
from analysis.plots import to_svg
from analysis.results import Result
from loaders import DerailError


def mixed() -> Any:
    kinds = ("all", "none", "turn_boundary")
    return chats(*[Chat(kind, requests_known=True) for kind in kinds for _ in range(6)])


def treated() -> Any:
    return trial(np.random.default_rng(0), 120, effect=0.3, complies=0.9, frailty=0.2)


def series() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    values = (rng.random((120, 8)) < np.r_[np.full(4, 0.1), np.full(4, 0.7)]).astype(float)
    return pl.DataFrame(
        {
            "run": np.repeat(np.arange(120), 8),
            "step": np.tile(np.arange(8), 120),
            "value": values.ravel(),
        }
    )


DRAWN: dict[str, tuple[Callable[[], Result], list[str]]] = {
    "token_accounting": (lambda: thinking.token_accounting(mixed(), by="arm"), ["turn_boundary", "none"]),
    "manipulation": (lambda: thinking.manipulation(treated(), expected=EXPECTED), ["complied", "deviated"]),
    "treatment_effects": (
        lambda: thinking.treatment_effects(treated(), expected=EXPECTED),
        ["intent to treat", "complier average", "observational"],
    ),
    "density": (lambda: thinking.density(mixed()), ["of calls think"]),
    "interleaving": (lambda: thinking.interleaving(mixed()), ["thought about before acting"]),
    "onset_of_dropping": (lambda: thinking.onset(mixed()), ["still have all of it"]),
    "cautions": (lambda: breakdown.cautions(simulate(Planted(tasks=8), 0)), ["small cells", "mind"]),
    "first_divergence": (lambda: breakdown.first_divergence(many([2, 3, 3])), ["nothing seen"]),
    "together": (lambda: breakdown.together(many([2] * 6 + [4] * 6)), ["b against a", "within a"]),
    "change_points": (
        lambda: breakdown.change_points(simulate(Planted(tasks=30), 0), series()), ["step (model call)"],
    ),
    "onset": (
        lambda: breakdown.onset(told((False, [("a", 1), ("b", 1)]), (True, [("a", 0)]))), ["failed runs"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DRAWN)
def test_each_kind_is_drawn_with_its_words(kind: str) -> None:
    make, words = DRAWN[kind]
    result = make()
    assert result.kind == kind
    drawn = to_svg(result.chart())
    for word in words:
        assert word in drawn


def test_bars_hold_every_run_once() -> None:
    result = thinking.manipulation(treated(), expected=EXPECTED)
    spec = result.chart().to_dict()
    rows = next(iter(spec["datasets"].values()))
    assert sum(row["runs"] for row in rows) == result.frame["runs"].sum()


def test_what_could_not_be_estimated_is_not_drawn() -> None:
    few = labelled([("kept", "all", True, "a"), ("dropped", "none", True, "a")])
    with pytest.raises(DerailError, match="no effect could be estimated"):
        thinking.treatment_effects(few, expected=EXPECTED).chart()
    with pytest.raises(DerailError, match="no run has an onset"):
        breakdown.onset(told((False, [("a", 0)]))).chart()
