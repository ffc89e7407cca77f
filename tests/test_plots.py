"""Figures: every kind of result has one, it says what it shows, fits paper, and does nothing it should not."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from simulate import Planted, simulate
from test_report import HOSTILE, Page, hostile_runs

from analysis import breakdown, outcomes, plots, raster, survival
from analysis.plots import marks, registry, theme
from analysis.plots.render import MAX_MARKS, size_of, spec_of
from analysis.results import Result
from loaders import Trajectories
from loaders.errors import DerailError

ANALYSES = Path(__file__).parent.parent / "analysis"


@pytest.fixture(scope="module")
def runs() -> Trajectories:
    return simulate(Planted(tasks=30, dropped_odds=1.8), 3)


@pytest.fixture(scope="module")
def rates(runs: Trajectories) -> Result:
    return outcomes.success(runs, by="trial")


def kinds_made() -> set[str]:
    """The kinds of every ``Result(kind="...")`` in the package."""
    return {
        str(keyword.value.value)
        for file in ANALYSES.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Result"
        for keyword in node.keywords
        if keyword.arg == "kind" and isinstance(keyword.value, ast.Constant)
    }


def test_every_kind_of_result_has_a_figure_that_tells_what_it_shows() -> None:
    made, drawn = kinds_made(), plots.kinds()
    assert len(made) > 25
    assert made - drawn <= {"quality"}  # a table of precision and recall, not drawn yet
    for name, figure in plots.figures().items():
        first = (figure.__doc__ or "").strip().partition("\n")[0]
        assert len(first) > 40, f"{name} has no first line to be read out"


def test_a_figure_of_ones_own_takes_the_place_of_the_usual_one(rates: Result) -> None:
    import altair as alt

    usual = dict(registry._ENTRIES)
    try:

        @plots.draws("success")
        def success(result: Result, width: int) -> Any:
            """My own dots, drawn as nobody else draws them."""
            return alt.Chart(result.frame).mark_tick().encode(x="success:Q").properties(width=width)

        spec = spec_of(plots.chart(rates, width=99))
        assert spec["mark"]["type"] == "tick"
        assert spec["width"] == 99
        assert "My own dots" in spec["description"]
    finally:
        registry._ENTRIES.clear()
        registry._ENTRIES.update(usual)
    assert "layer" in spec_of(plots.chart(rates))


def test_counts_stand_beneath_and_are_read_out(runs: Trajectories) -> None:
    result = breakdown.by_step(runs)
    judged = runs.trajectories.collect()
    failures = int(result.frame["failed"].sum())
    counts = f"30 tasks · {judged.height:,} runs · {failures:,} failures"
    spec = spec_of(plots.chart(result))
    assert spec["title"] == {"text": counts, "orient": "bottom"}
    assert counts in spec["description"]
    assert "title" not in spec_of(plots.chart(result, caption=False))


@pytest.mark.parametrize("by", [None, "trial"])
def test_a_spec_holds_no_more_rows_than_marks_need(runs: Trajectories, by: str | None) -> None:
    result = breakdown.by_step(runs, by)
    (rows,) = spec_of(plots.chart(result))["datasets"].values()
    assert len(rows) == result.frame.height


def test_a_chart_too_large_is_refused_with_the_way_out() -> None:
    import altair as alt

    frame = pl.DataFrame({"x": range(MAX_MARKS + 1)})
    with pytest.raises(DerailError, match=r"group_by"), alt.data_transformers.disable_max_rows():
        plots.to_svg(alt.Chart(frame).mark_point().encode(x="x:Q"))


def test_first_colours_differ_in_grey_and_all_stand_out() -> None:
    def grey(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    blue, orange, pale = (grey(c) for c in (theme.BLUE, theme.ORANGE, theme.PALE))
    assert orange - blue > 45
    assert pale - orange > 45
    assert set(theme.THEMES["dark"]) == set(theme.THEMES["page"])
    for colour in theme.SERIES:
        assert grey(theme.THEMES["dark"][colour]) > grey(colour)


def test_themes_change_colours_and_never_data(rates: Result) -> None:
    named = replace(
        rates, frame=rates.frame.with_columns(pl.lit(theme.BLUE).alias("trial")).head(1)
    )
    dark = spec_of(plots.chart(named, theme="dark"))
    assert theme.BLUE in json.dumps(dark["datasets"])
    assert dark["config"]["text"]["color"] == theme.THEMES["dark"][theme.INK]
    assert theme.BLUE not in json.dumps({k: v for k, v in dark.items() if k != "datasets"})
    page = plots.to_svg(plots.chart(named), theme="page")
    assert f"var(--derail-blue,{theme.BLUE})" in page
    assert f">{theme.BLUE}<" in page  # the arm's name


def test_hostile_names_are_drawn_and_do_nothing() -> None:
    runs = hostile_runs()
    for result in (outcomes.success(runs, by="arm"), breakdown.by_step(runs, by="arm"), raster.raster(runs, by="arm")):  # fmt: skip
        svg = plots.to_svg(plots.chart(result), theme="page")
        assert Page(svg).active == []
        assert "\x1b" not in svg
        shown = result._repr_html_()
        assert Page(shown).active == []
        assert "\x1b" not in shown
    assert "&lt;script&gt;" in svg


def test_a_megabyte_of_a_name_stays_out_of_spec_and_table(rates: Result) -> None:
    long = rates.frame.with_columns(pl.lit("x" * 1_000_000).alias("trial")).head(1)
    result = replace(rates, frame=long)
    assert len(json.dumps(plots.chart(result).to_dict())) < 20_000
    assert len(result._repr_html_()) < 60_000


def test_long_results_show_their_head(runs: Trajectories) -> None:
    shown = breakdown.by_step(runs, by="trial")._repr_html_()
    assert shown.index("<svg") < shown.index("<table")
    assert re.search(r"show all \d+ rows", shown)


@pytest.mark.parametrize(("width", "inches"), [("single", 3.25), ("double", 6.75), (5, 5.0)])
def test_an_export_is_as_wide_as_the_column(
    rates: Result, tmp_path: Path, width: Any, inches: float
) -> None:
    done = plots.export(rates, tmp_path / "fig", ["svg"], width)
    assert inches - 0.05 <= done.width <= inches
    svg = (tmp_path / "fig.svg").read_text()
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)px"', svg)]
    assert min(sizes) * 72 / 96 >= 7


def test_an_export_holds_data_and_provenance(runs: Trajectories, tmp_path: Path) -> None:
    result = survival.cumulative_incidence(runs, by="trial")
    done = plots.export(result, tmp_path / "a" / "fig3", ["pdf", "png"])
    assert [path.name for path in done.files] == ["fig3.pdf", "fig3.png", "fig3.csv", "fig3.json"]
    pdf = done.files[0].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert re.findall(rb"/FontFile\d?", pdf), "no font is embedded"
    data = done.files[2].read_bytes()
    assert pl.read_csv(data).height == result.frame.height
    about = json.loads(done.files[3].read_text())
    assert about["data"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert about["call"] == "analysis.survival.cumulative_incidence(runs, by='trial', level=0.95)"
    assert about["versions"]["polars"] == pl.__version__
    assert "30 tasks" in about["caption"]


def test_data_of_an_export_are_no_formulas(rates: Result, tmp_path: Path) -> None:
    evil = rates.frame.with_columns(pl.lit("=cmd|'/c calc'!A0").alias("trial"))
    plots.export(replace(rates, frame=evil), tmp_path / "fig", [])
    assert pl.read_csv(tmp_path / "fig.csv")["trial"].unique().to_list() == ["'=cmd|'/c calc'!A0"]


def test_a_chart_of_ones_own_is_exported_with_its_rows(tmp_path: Path) -> None:
    import altair as alt

    chart = alt.Chart(pl.DataFrame({"x": [1, 2]})).mark_point().encode(x="x:Q")
    plots.export(chart, tmp_path / "own", ["svg"])
    assert pl.read_csv(tmp_path / "own.csv")["x"].to_list() == [1, 2]
    with pytest.raises(DerailError, match="no format 'gif'"):
        plots.export(chart, tmp_path / "own", ["gif"])


def test_svg_is_the_same_each_time_and_as_it_was(rates: Result) -> None:
    svg = plots.to_svg(plots.chart(rates, width=200))
    assert svg == plots.to_svg(plots.chart(rates, width=200))
    marks = re.findall(r'role="graphics-symbol" aria-roledescription="(\w+)', svg)
    assert marks.count("point") == rates.frame.height
    assert marks.count("rule") == rates.frame.height
    assert HOSTILE not in svg


def test_notebooks_get_a_bundle_that_needs_no_network(rates: Result) -> None:
    bundle = plots.chart(rates)._repr_mimebundle_()
    data: Any = bundle[0] if isinstance(bundle, tuple) else bundle
    spec = data["application/vnd.vegalite.v5+json"]
    assert spec["usermeta"]["embedOptions"]["renderer"] == "svg"
    menu = spec["usermeta"]["embedOptions"]["actions"]
    assert [name for name, is_there in menu.items() if is_there] == ["export"]
    assert "--jp-ui-font-color1" in spec["config"]["axis"]["labelColor"]
    assert not re.search(r"https?://(?!vega\.github\.io/schema)", json.dumps(spec))
    assert data["image/png"].startswith("iVBOR")
    assert "30 tasks" in data["text/plain"]


def test_a_chart_of_ones_own_follows_the_page_and_keeps_its_own_colours() -> None:
    import altair as alt

    plots.use_offline_renderer()
    own = alt.Chart(pl.DataFrame({"x": [1, 2]})).mark_point(color="#123456").encode(x="x:Q")
    own = own.configure_axis(labelColor="#ff0000")
    bundle: Any = own._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    spec = data["application/vnd.vegalite.v5+json"]
    assert spec["config"]["background"] == "transparent"
    assert spec["config"]["axis"]["labelColor"] == "#ff0000"
    assert "--jp-ui-font-color1" in spec["config"]["axis"]["titleColor"]
    assert spec["mark"]["color"] == "#123456"


def test_long_names_make_the_axis_shorter_and_not_the_page_wider(rates: Result) -> None:
    long = rates.frame.with_columns(pl.lit("a name of many letters, " * 3).alias("trial"))
    short, named = plots.chart(rates), plots.chart(replace(rates, frame=long))
    assert spec_of(short)["width"] == registry.WIDTH
    assert size_of(named)[0] <= registry.PAGE + 2
    assert spec_of(named)["width"] < registry.WIDTH
    assert spec_of(plots.chart(replace(rates, frame=long), width=460))["width"] == 460


@pytest.mark.parametrize(("which", "ground"), [("light", "#ffffff"), ("dark", "#16181d")])
def test_an_exported_figure_has_the_ground_of_its_theme(
    rates: Result, tmp_path: Path, which: str, ground: str
) -> None:
    plots.export(rates, tmp_path / "fig", ["svg"], theme=which)
    first = re.search(r'<rect[^>]*fill="(#[0-9a-f]{6})"', (tmp_path / "fig.svg").read_text())
    assert first is not None
    assert first[1] == ground


def test_a_staircase_ends_where_too_few_are_left() -> None:
    rows = pl.DataFrame(
        {
            "label": ["a", "a", "a", "b"],
            "place": [1, 2, 3, 1],
            "kept": [0.9, 0.5, 0.0, 0.8],
            "low": [0.8, 0.4, 0.0, 0.7],
            "high": [0.95, 0.6, 0.0, 0.9],
            "at_risk": [40, 20, 4, 40],
        }
    )
    axes = {"place": "calls", "kept": "still have it"}
    spec = marks.staircase(rows, axes, ["at_risk"], 200).to_dict()
    drawn = next(iter(spec["datasets"].values()))
    assert [(r["label"], r["place"], r["kept"]) for r in drawn] == [
        ("a", 0, 1.0), ("a", 1, 0.9), ("a", 2, 0.5), ("b", 0, 1.0), ("b", 1, 0.8),
    ]  # fmt: skip
