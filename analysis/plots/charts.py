"""The usual chart of each kind of result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from analysis.plots.render import use_offline_renderer
from analysis.plots.theme import BLUE, GREEN, GREY, ORANGE, SERIES, configured
from analysis.results import Result
from loaders.errors import DerailError


def chart(result: Result, width: int = 460) -> Any:
    """The usual Altair chart of a result, ``width`` pixels wide.

    Raises ``DerailError`` where there is nothing to draw.

    >>> import loaders
    >>> from analysis import breakdown
    >>> steps = breakdown.by_step(loaders.load("sample_logs/study"))
    >>> type(chart(steps)).__name__
    'LayerChart'
    """
    draw = _CHARTS.get(result.kind)
    if draw is None or result.frame.is_empty():
        raise DerailError(f"nothing to draw for {result.title!r}: {len(result.frame)} rows")
    use_offline_renderer()
    return configured(draw(result, width))


def _success(result: Result, width: int) -> Any:
    import altair as alt

    frame = result.frame.with_columns(_label(result.keys).alias("label"))
    y = alt.Y("label:N", title=None, sort=None)
    base = alt.Chart(frame.select("label", "success", "low", "high", "tasks", "runs")).encode(y=y)
    x = alt.X(
        "low:Q", title="success, 95 % interval clustered by task", scale=_share(), axis=_percent()
    )
    rule = base.mark_rule(strokeWidth=2.5, color=BLUE, opacity=0.55).encode(x=x, x2="high:Q")
    point = base.mark_circle(size=90, color=BLUE, opacity=1).encode(
        x=alt.X("success:Q", axis=_percent()),
        tooltip=["label", "success", "low", "high", "tasks", "runs"],
    )
    text = base.mark_text(dy=-12, fontSize=11).encode(
        x="success:Q", text=alt.Text("success:Q", format=".1%")
    )
    return (rule + point + text).properties(width=width, height=alt.Step(42))


def _forest(result: Result, width: int) -> Any:
    import altair as alt

    shown = result.frame.filter(pl.col("odds_ratio").is_not_null())
    if shown.is_empty():
        raise DerailError("every exposure was refused: there are too few runs to estimate anything")
    shown = shown.with_columns(
        pl.when(pl.col("p_adjusted") >= 0.05)
        .then(pl.lit("not shown to matter"))
        .when(pl.col("odds_ratio") > 1)
        .then(pl.lit("precedes failure"))
        .otherwise(pl.lit("precedes success"))
        .alias("reading"),
        pl.format(
            "{} of {}", "exposed_failed", pl.col("exposed_failed") + pl.col("exposed_succeeded")
        ).alias("failed"),
    ).select("exposure", "odds_ratio", "low", "high", "p_adjusted", "failed", "reading", "tasks")
    scale = alt.Scale(type="log", nice=False)
    colour = alt.Color(
        "reading:N",
        title=None,
        scale=alt.Scale(
            domain=["precedes failure", "not shown to matter", "precedes success"],
            range=[ORANGE, GREY, GREEN],
        ),
    )
    base = alt.Chart(shown).encode(y=alt.Y("exposure:N", title=None, sort=None))
    rule = base.mark_rule(strokeWidth=2.5, opacity=0.6).encode(
        x=alt.X("low:Q", scale=scale, title="odds ratio of failing (log scale), 95 % interval"),
        x2="high:Q",
        color=colour,
    )
    point = base.mark_circle(size=90, opacity=1).encode(
        x="odds_ratio:Q",
        color=colour,
        tooltip=["exposure", "odds_ratio", "low", "high", "p_adjusted", "failed"],
    )
    one = (
        alt.Chart(pl.DataFrame({"x": [1.0]}))
        .mark_rule(strokeDash=[4, 4], color=GREY)
        .encode(x="x:Q")
    )
    text = base.mark_text(dy=-12, fontSize=11).encode(
        x="odds_ratio:Q", text=alt.Text("odds_ratio:Q", format=".2f")
    )
    return (one + rule + point + text).properties(width=width, height=alt.Step(42))


def _hazard(result: Result, width: int) -> Any:
    """Adjusted odds ratios with their intervals, and unadjusted ones as rings beneath."""
    import altair as alt

    shown = result.frame.filter(pl.col("odds_ratio").is_not_null())
    if shown.is_empty():
        raise DerailError(
            "every exposure was refused: there are too few events to estimate anything"
        )
    names = {"adjusted": ("odds_ratio", "low", "high")}
    names["unadjusted"] = ("unadjusted", "unadjusted_low", "unadjusted_high")
    events = pl.format("{} of {} calls", "exposed_events", "exposed_calls").alias("broke")
    drawn = pl.concat(
        shown.select(
            "exposure",
            pl.lit(which).alias("estimate"),
            *(pl.col(c).alias(n) for c, n in zip(columns, ("ratio", "low", "high"), strict=True)),
            "p_adjusted",
            events,
        )
        for which, columns in names.items()
    ).drop_nulls("ratio")
    domain = list(names)
    base = alt.Chart(drawn).encode(
        y=alt.Y("exposure:N", title=None, sort=None),
        yOffset=alt.YOffset("estimate:N", sort=domain),
        color=alt.Color(
            "estimate:N", title=None, scale=alt.Scale(domain=domain, range=[BLUE, GREY])
        ),
    )
    x = alt.X(
        "low:Q",
        scale=alt.Scale(type="log", nice=False),
        title="odds ratio of the run breaking at a call (log scale), 95 % interval",
    )
    rule = base.mark_rule(strokeWidth=2.5, opacity=0.6).encode(x=x, x2="high:Q")
    point = base.mark_point(size=70, filled=True, opacity=1).encode(
        x="ratio:Q",
        shape=alt.Shape(
            "estimate:N", title=None, scale=alt.Scale(domain=domain, range=["circle", "diamond"])
        ),
        tooltip=["exposure", "estimate", "ratio", "low", "high", "p_adjusted", "broke"],
    )
    text = (
        base.transform_filter("datum.estimate == 'adjusted'")
        .mark_text(dy=-11, fontSize=11)
        .encode(x="ratio:Q", text=alt.Text("ratio:Q", format=".2f"))
    )
    one = (
        alt.Chart(pl.DataFrame({"x": [1.0]}))
        .mark_rule(strokeDash=[4, 4], color=GREY)
        .encode(x="x:Q")
    )
    return (one + rule + point + text).properties(width=width, height=alt.Step(24))


def _by_step(result: Result, width: int) -> Any:
    import altair as alt

    frame = result.frame.with_columns(_label(result.keys).alias("label")).select(
        "label", "step", "success", "low", "high", "at_risk", "failed"
    )
    colour = (
        alt.Color(
            "label:N",
            title=None,
            scale=alt.Scale(range=list(SERIES)),
            legend=alt.Legend(symbolOpacity=1, symbolType="circle"),
        )
        if frame["label"].n_unique() > 1
        else alt.value(BLUE)
    )
    base = alt.Chart(frame).encode(
        x=alt.X("step:Q", title="step (model call)", axis=alt.Axis(tickMinStep=1, grid=False))
    )
    band = base.mark_area(opacity=0.16).encode(
        y=alt.Y("low:Q", title="succeed in the end", scale=_share(), axis=_percent()),
        y2="high:Q",
        color=colour,
    )
    line = base.mark_line(strokeWidth=2.5).encode(y="success:Q", color=colour)
    point = base.mark_circle(size=45, opacity=1).encode(
        y="success:Q", color=colour, tooltip=["label", "step", "success", "at_risk", "failed"]
    )
    return (band + line + point).properties(width=width, height=220)


def _incidence(result: Result, width: int) -> Any:
    """A curve for each end; groups side by side."""
    import altair as alt

    frame = result.frame.with_columns(_label(result.keys).alias("label")).select(
        "label", "step", "end", "incidence", "low", "high", "at_risk", "events"
    )
    domain = ["failure", "success", "cut off"]
    colour = alt.Color(
        "end:N",
        title=None,
        scale=alt.Scale(domain=domain, range=[ORANGE, GREEN, GREY]),
        legend=alt.Legend(symbolOpacity=1, symbolType="circle"),
    )
    base = alt.Chart().encode(
        x=alt.X("step:Q", title="model calls made", axis=alt.Axis(tickMinStep=1, grid=False)),
        color=colour,
    )
    band = base.mark_area(opacity=0.16, interpolate="step-after").encode(
        y=alt.Y("low:Q", title="runs that ended so", scale=_share(), axis=_percent()), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2.5, interpolate="step-after").encode(
        y="incidence:Q", tooltip=["label", "end", "step", "incidence", "at_risk", "events"]
    )
    groups = frame["label"].n_unique()
    each = max(140, width // groups - 20 * (groups > 1))
    drawn: Any = alt.layer(band, line, data=frame).properties(width=each, height=220)
    if groups == 1:
        return drawn
    return drawn.facet(column=alt.Column("label:N", title=None, sort=None))


def _factors(result: Result, width: int) -> Any:
    import altair as alt

    shown = result.frame.filter(pl.col("difference").is_not_null())
    if shown.is_empty():
        raise DerailError("every effect was refused: too few tasks have all that they need")
    domain = ["main", "interaction"]
    base = alt.Chart(shown).encode(
        y=alt.Y("effect:N", title=None, sort=None),
        color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=domain, range=[BLUE, ORANGE])),
    )
    x = alt.X(
        "low:Q",
        title="difference of success, 95 % interval",
        axis=alt.Axis(format="+.0%", grid=True),
    )
    rule = base.mark_rule(strokeWidth=2.5, opacity=0.6).encode(x=x, x2="high:Q")
    point = base.mark_circle(size=90, opacity=1).encode(
        x="difference:Q",
        tooltip=["effect", "kind", "difference", "low", "high", "p_adjusted", "tasks", "runs"],
    )
    text = base.mark_text(dy=-12, fontSize=11).encode(
        x="difference:Q", text=alt.Text("difference:Q", format="+.1%")
    )
    zero = (
        alt.Chart(pl.DataFrame({"x": [0.0]}))
        .mark_rule(strokeDash=[4, 4], color=GREY)
        .encode(x="x:Q")
    )
    return (zero + rule + point + text).properties(width=width, height=alt.Step(38))


def _power(result: Result, width: int) -> Any:
    import altair as alt

    frame = result.frame.with_columns(pl.format("{} trials", "trials").alias("label"))
    return (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=45, filled=True))
        .encode(
            x=alt.X("tasks:Q", scale=alt.Scale(type="log", nice=False), title="tasks (log scale)"),
            y=alt.Y(
                "detectable:Q", title="smallest detectable difference", axis=alt.Axis(format=".0%")
            ),
            color=alt.Color("label:N", title=None, sort=None, scale=alt.Scale(range=list(SERIES))),
            tooltip=["tasks", "trials", "runs", "detectable"],
        )
        .properties(width=width, height=220)
    )


def _sent_back(result: Result, width: int) -> Any:
    """Share of earlier thinking blocks that came back, a bar each; a cross where it is not known."""
    import altair as alt

    names = [key for key in result.keys if result.frame[key].null_count() < result.frame.height]
    frame = result.frame.with_columns(
        pl.concat_str(
            [pl.col(n).cast(pl.String) for n in names],
            separator=" ",
            ignore_nulls=True,
        ).alias("label"),
        pl.when(pl.col("sent_share").is_null())
        .then(pl.lit("not known"))
        .otherwise("policy")
        .alias("policy"),
    ).select("label", "policy", "runs", "sent_share")
    domain = ["all", "turn_boundary", "last", "none", "mixed", "not known"]
    colours = [GREEN, "#56b4e9", "#e69f00", ORANGE, "#cc79a7", GREY]
    base = alt.Chart(frame).encode(
        y=alt.Y("label:N", title=None, sort=None),
        color=alt.Color("policy:N", title=None, scale=alt.Scale(domain=domain, range=colours)),
        tooltip=["label", "policy", "runs", "sent_share"],
    )
    x = alt.X("sent_share:Q", title="earlier thinking sent back", scale=_share(), axis=_percent())
    bar = base.mark_bar(height=9, opacity=0.8).encode(x=x)
    point = (
        base.transform_filter("isValid(datum.sent_share)")
        .mark_circle(size=90, opacity=1)
        .encode(x=x)
    )
    unknown = (
        base.transform_filter("!isValid(datum.sent_share)")
        .mark_point(shape="cross", size=70, opacity=1, filled=True)
        .encode(x=alt.value(4))
    )
    return (bar + point + unknown).properties(width=width, height=alt.Step(26))


def _event_study(result: Result, width: int) -> Any:
    """Effects by moment; a line marks the exposure, the base call is a ring."""
    import altair as alt

    shown = result.frame.filter(pl.col("effect").is_not_null()).with_columns(
        (pl.col("tau") == -1).alias("base")
    )
    base = alt.Chart(shown).encode(
        x=alt.X(
            "tau:Q",
            title="calls since the exposure was met",
            axis=alt.Axis(tickMinStep=1, grid=False),
        )
    )
    band = base.mark_area(opacity=0.16, color=BLUE).encode(
        y=alt.Y("low:Q", title="change against runs not exposed, 95 % interval"), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2, color=BLUE).encode(y="effect:Q")
    point = base.mark_point(size=55, filled=True, opacity=1, color=BLUE).encode(
        y="effect:Q",
        color=alt.condition("datum.base", alt.value(GREY), alt.value(BLUE)),
        tooltip=["tau", "effect", "low", "high", "p", "exposed", "controls"],
    )
    rules = [
        alt.Chart(pl.DataFrame({"x": [-0.5]}))
        .mark_rule(strokeDash=[4, 4], color=ORANGE)
        .encode(x="x:Q"),
        alt.Chart(pl.DataFrame({"y": [0.0]})).mark_rule(color=GREY).encode(y="y:Q"),
    ]
    return alt.layer(*rules, band, line, point).properties(width=width, height=220)


def _recovery(result: Result, width: int) -> Any:
    import altair as alt

    shown = result.frame.filter(pl.col("rate").is_not_null())
    if shown.is_empty():
        raise DerailError("no kind has ten perturbed responses, so no rate of recovery is shown")
    name = result.keys[0]
    shown = shown.with_columns(
        pl.format("{} of {}", "recovered", "responses").alias("count")
    ).select(name, "rate", "low", "high", "count", "median")
    base = alt.Chart(shown).encode(y=alt.Y(f"{name}:N", title=None, sort=None))
    rule = base.mark_rule(strokeWidth=2.5, color=BLUE, opacity=0.55).encode(
        x=alt.X(
            "low:Q",
            title="recovered, 95 % interval clustered by task",
            scale=_share(),
            axis=_percent(),
        ),
        x2="high:Q",
    )
    point = base.mark_circle(size=90, color=BLUE, opacity=1).encode(
        x="rate:Q", tooltip=[name, "rate", "low", "high", "count", "median"]
    )
    text = base.mark_text(dy=-12, fontSize=11).encode(x="rate:Q", text="count:N")
    return (rule + point + text).properties(width=width, height=alt.Step(38))


def _compare(result: Result, width: int) -> Any:
    import altair as alt

    baseline = result.frame["a"][0]
    frame = result.frame.with_columns(pl.col("b").alias("label")).select(
        "label", "difference", "low", "high", "gained", "lost", "pairs"
    )
    base = alt.Chart(frame).encode(y=alt.Y("label:N", title=None, sort=None))
    rule = base.mark_rule(strokeWidth=2.5, color=BLUE, opacity=0.55).encode(
        x=alt.X(
            "low:Q", title=f"difference in success from {baseline}, 95 % interval", axis=_percent()
        ),
        x2="high:Q",
    )
    point = base.mark_circle(size=90, color=BLUE, opacity=1).encode(
        x="difference:Q", tooltip=["label", "difference", "gained", "lost", "pairs"]
    )
    zero = (
        alt.Chart(pl.DataFrame({"x": [0.0]}))
        .mark_rule(strokeDash=[4, 4], color=GREY)
        .encode(x="x:Q")
    )
    text = base.mark_text(dy=-12, fontSize=11).encode(
        x="difference:Q", text=alt.Text("difference:Q", format="+.1%")
    )
    return (zero + rule + point + text).properties(width=width, height=alt.Step(46))


def _continuity(result: Result, width: int) -> Any:
    import altair as alt

    frame = (
        result.frame.with_columns(_label(result.keys).alias("label"))
        .filter(pl.col("calls_due") > 0)
        .select("label", kept="calls_kept", dropped="calls_dropped", unknown="calls_unknown")
        .group_by("label", maintain_order=True)
        .sum()
        .unpivot(index="label", variable_name="thinking", value_name="calls")
        .with_columns(
            pl.col("thinking")
            .replace_strict({"kept": 0, "dropped": 1, "unknown": 2})
            .alias("order")
        )
    )
    if frame.is_empty():
        raise DerailError("no call had earlier thinking to send back")
    colour = alt.Color(
        "thinking:N",
        title="earlier thinking was",
        scale=alt.Scale(domain=["kept", "dropped", "unknown"], range=[GREEN, ORANGE, "#b9bec6"]),
    )
    return (
        alt.Chart(frame)
        .mark_bar(height=16)
        .encode(
            y=alt.Y("label:N", title=None, sort=None),
            x=alt.X(
                "calls:Q",
                stack="normalize",
                title="calls that had earlier thinking",
                axis=_percent(),
            ),
            color=colour,
            order="order:Q",
            tooltip=["label", "thinking", "calls"],
        )
        .properties(width=width, height=alt.Step(30))
    )


def _pass_k(result: Result, width: int) -> Any:
    import altair as alt

    frame = result.frame.with_columns(_label(result.keys).alias("label")).select(
        "label", "k", "pass_k", "low", "high", "tasks"
    )
    colour = alt.Color("label:N", title=None) if frame["label"].n_unique() > 1 else alt.value(BLUE)
    base = alt.Chart(frame).encode(
        x=alt.X("k:O", title="k trials, all must succeed", axis=alt.Axis(labelAngle=0))
    )
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", title="pass^k", scale=_share(), axis=_percent()), y2="high:Q", color=colour
    )
    line = base.mark_line(point=True, strokeWidth=2.5).encode(
        y="pass_k:Q", color=colour, tooltip=["label", "k", "pass_k", "tasks"]
    )
    return (band + line).properties(width=width, height=200)


def _rates(result: Result, width: int) -> Any:
    import altair as alt

    frame = result.frame.with_columns(_label(result.keys[:-1]).alias("label")).select(
        "label", "code", "responses", "of", "share", "runs"
    )
    many = frame["label"].n_unique() > 1
    return (
        alt.Chart(frame)
        .mark_bar(height={"band": 0.75})
        .encode(
            y=alt.Y("code:N", title=None, sort="-x"),
            yOffset=alt.YOffset("label:N") if many else alt.Undefined,
            x=alt.X("share:Q", title="share of tool responses", axis=_percent(".1%")),
            color=alt.Color("label:N", title=None) if many else alt.value(BLUE),
            tooltip=["label", "code", "responses", "of", "runs"],
        )
        .properties(width=width, height=alt.Step(14 if many else 26))
    )


def _axes(result: Result, width: int) -> Any:
    """For each axis, in how many groups runs differ, agree, or are unknown."""
    import altair as alt

    domain = ["differ", "same", "same where known", "unknown"]
    counted = (
        result.frame.filter(pl.col("runs") > 1)
        .with_columns(pl.col("axis").str.replace("_", " "))
        .group_by("axis", "reading", maintain_order=True)
        .agg(pl.len().alias("groups"))
        .with_columns(
            pl.col("reading")
            .replace_strict({name: n for n, name in enumerate(domain)})
            .alias("order")
        )
    )
    if counted.is_empty():
        raise DerailError("no group has two runs, so there is nothing to compare")
    colour = alt.Color(
        "reading:N",
        title="runs of a group",
        scale=alt.Scale(domain=domain, range=[ORANGE, BLUE, "#9ec9e2", "#d9dce1"]),
    )
    noun = "tasks" if result.keys[:-1] == ("task_id",) else "groups"
    return (
        alt.Chart(counted)
        .mark_bar(height=16)
        .encode(
            y=alt.Y("axis:N", title=None, sort=None),
            x=alt.X("groups:Q", title=f"{noun} with several runs", axis=alt.Axis(tickMinStep=1)),
            color=colour,
            order="order:Q",
            tooltip=["axis", "reading", "groups"],
        )
        .properties(width=width, height=alt.Step(30))
    )


_MOST_ROWS = 40


def _diff(result: Result, width: int) -> Any:
    """How often runs of both arms differ in an item, and how often runs of one arm do."""
    import altair as alt

    shown = (
        result.frame.filter(pl.col("between").is_not_null())
        .with_columns(
            pl.concat_str(
                [pl.col("axis").str.replace("_", " "), pl.col("item").str.slice(0, 40)],
                separator=" · ",
            ).alias("label"),
            (pl.col("verdict") == "differ").alias("first"),
        )
        .sort("first", descending=True, maintain_order=True)
        .head(_MOST_ROWS)
    )
    if shown.is_empty():
        raise DerailError("nothing is known of both arms, so there is nothing to draw")
    a, b = shown.select("a", "b").row(0)
    names = {"between": "between the arms", "within_a": f"within {a}", "within_b": f"within {b}"}
    drawn = (
        shown.select("label", "verdict", "units", *names)
        .unpivot(
            list(names),
            index=["label", "verdict", "units"],
            variable_name="pairs",
            value_name="share",
        )
        .drop_nulls("share")
        .with_columns(pl.col("pairs").replace_strict(names))
    )
    domain = [name for name in names.values() if name in drawn["pairs"]]
    base = alt.Chart(drawn).encode(
        y=alt.Y(
            "label:N", title=None, sort=shown["label"].to_list(), axis=alt.Axis(labelLimit=300)
        ),
        yOffset=alt.YOffset("pairs:N", sort=domain),
        x=alt.X(
            "share:Q", title="pairs of runs of a task that differ", scale=_share(), axis=_percent()
        ),
        color=alt.Color(
            "pairs:N",
            title=None,
            scale=alt.Scale(domain=domain, range=[ORANGE, GREY, GREY][: len(domain)]),
        ),
    )
    rule = base.mark_rule(strokeWidth=1.5, opacity=1).encode(x2=alt.X2Datum(0))
    point = base.mark_point(filled=True, size=55, opacity=1).encode(
        shape=alt.Shape(
            "pairs:N",
            title=None,
            scale=alt.Scale(domain=domain, range=["circle", "diamond", "square"][: len(domain)]),
        ),
        tooltip=["label", "pairs", "share", "verdict", "units"],
    )
    return (rule + point).properties(width=width, height=alt.Step(26, **{"for": "position"}))


def _surface(result: Result, width: int) -> Any:
    """Left, what each axis explains; right, its worst value against the mean of its settings."""
    import altair as alt

    told = pl.format("{} runs, {} tasks", "runs", "tasks")
    frame = result.frame.with_columns(
        pl.col("axis").str.replace("_", " "),
        pl.when(pl.col("runs") > 0).then(told).otherwise(pl.lit("nothing to compare")).alias("n"),
    )
    if frame["explained"].is_null().all() and frame["worst"].is_null().all():
        raise DerailError("every axis was refused: " + "; ".join(frame["refused"].unique()))
    panels = [
        ("explained", "low", "high", "variation within a setting that it explains", ".0%"),
        ("worst_effect", "worst_low", "worst_high", "worst value less the mean", "+.2f"),
    ]
    each, order = (width - 20) // 2, frame["axis"].to_list()
    drawn: list[Any] = []
    for value, low, high, title, form in panels:
        rows = frame.select(
            "axis", "n", pl.col("worst_text").fill_null("–"), value=value, low=low, high=high
        )
        y = alt.Y("axis:N", title=None, sort=order, axis=alt.Axis(labels=not drawn, ticks=False))
        base = alt.Chart(rows).encode(y=y)
        known = base.transform_filter("isValid(datum.value)")
        axis = alt.Axis(format=form, tickCount=4)
        rule = known.mark_rule(strokeWidth=2.5, color=BLUE, opacity=0.55).encode(
            x=alt.X("low:Q", title=title, axis=axis), x2="high:Q"
        )
        point = known.mark_circle(size=90, color=BLUE, opacity=1).encode(
            x="value:Q", tooltip=["axis", "value", "low", "high", "n", "worst_text"]
        )
        text = known.mark_text(dy=-12, fontSize=11).encode(
            x="value:Q", text=alt.Text("value:Q", format=form)
        )
        zero = (
            alt.Chart(pl.DataFrame({"x": [0.0]}))
            .mark_rule(strokeDash=[4, 4], color=GREY)
            .encode(x="x:Q")
        )
        refused = (
            base.transform_filter("!isValid(datum.value)")
            .mark_text(fontSize=11, color=GREY)
            .encode(x=alt.value(each / 2), text=alt.value("no estimate"))
        )
        drawn.append(
            (zero + rule + point + text + refused).properties(width=each, height=alt.Step(38))
        )
    return alt.hconcat(*drawn, spacing=20)


def _behaviour(result: Result, width: int) -> Any:
    """Shares of steps or runs as dots with intervals; what is no share in a panel of its own."""
    import altair as alt

    known = result.frame.filter(pl.col("value").is_not_null())
    if known.is_empty():
        raise DerailError("no signal of behaviour could be measured in these logs")
    known = known.with_columns(_label(result.keys[:-1]).alias("label")).select(
        "label", "signal", "value", "low", "high", "unit", "showing", "runs", "tasks"
    )
    arms = known["label"].unique(maintain_order=True).to_list()
    colour = alt.Color(
        "label:N",
        title=None,
        scale=alt.Scale(domain=arms, range=_series(len(arms))),
        legend=alt.Legend(symbolOpacity=1, symbolType="circle"),
    )
    panels: list[Any] = []
    ratio, steps = pl.col("unit") == "ratio to chance", pl.col("unit") == "steps"
    for rows, title, shares in (
        (known.filter(~ratio & ~steps), "share, 95 % interval clustered by task", True),
        (known.filter(ratio), "errors right after an error, over chance", False),
        (known.filter(steps), "steps since something new", False),
    ):
        if rows.is_empty():
            continue
        x = alt.X(
            "low:Q",
            title=title,
            scale=_share() if shares else alt.Scale(zero=True),
            axis=_percent() if shares else alt.Axis(),
        )
        base = alt.Chart(rows).encode(
            y=alt.Y(
                "signal:N", title=None, sort=rows["signal"].unique(maintain_order=True).to_list()
            ),
            yOffset=alt.YOffset("label:N", sort=arms),
            color=colour if len(arms) > 1 else alt.value(BLUE),
        )
        rule = base.mark_rule(strokeWidth=2.5, opacity=0.55).encode(x=x, x2="high:Q")
        point = base.mark_circle(size=70, opacity=1).encode(
            x="value:Q",
            tooltip=["label", "signal", "value", "low", "high", "unit", "showing", "runs", "tasks"],
        )
        layers = [rule, point]
        if title.endswith("chance"):
            one = alt.Chart(pl.DataFrame({"x": [1.0]})).mark_rule(strokeDash=[4, 4], color=GREY)
            layers.insert(0, one.encode(x="x:Q"))
        height = alt.Step(max(12, 26 // len(arms)))
        panels.append(alt.layer(*layers).properties(width=width, height=height))
    return alt.vconcat(*panels) if len(panels) > 1 else panels[0]


def _components(result: Result, width: int) -> Any:
    """Shares of the variance as bars with intervals."""
    import altair as alt

    shown = result.frame.filter(pl.col("share").is_not_null()).select(
        "component", "share", "share_low", "share_high", "variance", "levels"
    )
    if shown.is_empty():
        raise DerailError("not every component could be estimated, so no share is known")
    order = shown["component"].to_list()
    base = alt.Chart(shown).encode(y=alt.Y("component:N", title=None, sort=order))
    bar = base.mark_bar(height={"band": 0.55}, color=BLUE, opacity=0.85).encode(
        x=alt.X(
            "share:Q", title="share of variance, 95 % interval", scale=_share(), axis=_percent()
        ),
        tooltip=["component", "share", "share_low", "share_high", "variance", "levels"],
    )
    rule = base.mark_rule(strokeWidth=1.8, color="#222222").encode(
        x="share_low:Q", x2="share_high:Q"
    )
    text = base.mark_text(align="left", dx=8, fontSize=11).encode(
        x="end:Q", text=alt.Text("share:Q", format=".1%")
    )
    end = "isValid(datum.share_high) ? datum.share_high : datum.share"
    return (bar + rule + text.transform_calculate(end=end)).properties(
        width=width, height=alt.Step(30)
    )


def _ranks(result: Result, width: int) -> Any:
    """A line for each model across scaffolds."""
    model, scaffold = result.keys
    shown = result.frame.filter(pl.col("success").is_not_null())
    if shown.is_empty():
        raise DerailError("every model has too few runs in every scaffold")
    drawn = shown.select(
        pl.col(model).alias("model"),
        pl.col(scaffold).alias("at"),
        pl.col("success").alias("value"),
        *("low", "high", "rank", "tasks", "runs"),
    )
    return _slopes(drawn, width, sorted(drawn["at"].unique().to_list()), "success")


def _reality(result: Result, width: int) -> Any:
    """A line for each model from the benchmark to reality."""
    shown = result.frame.filter(pl.col("gap").is_not_null()).with_columns(
        _label(result.keys).alias("model")
    )
    if shown.is_empty():
        raise DerailError("there are too few runs on both sides to draw")
    drawn = pl.concat(
        shown.select(
            "model",
            pl.lit(side).alias("at"),
            pl.col(side).alias("value"),
            pl.col(f"{side}_low").alias("low"),
            pl.col(f"{side}_high").alias("high"),
            pl.col(f"rank_{side}").alias("rank"),
            pl.col("runs" if side == "benchmark" else "real_runs").alias("runs"),
        )
        for side in ("benchmark", "real")
    )
    return _slopes(drawn, width, ["benchmark", "real"], "mean outcome")


def _slopes(drawn: pl.DataFrame, width: int, places: list[str], title: str) -> Any:
    import altair as alt

    models = drawn["model"].unique(maintain_order=True).to_list()
    is_share = bool(drawn["value"].is_between(0, 1).all())
    x = alt.X(
        "at:N",
        title=None,
        sort=places,
        axis=alt.Axis(labelAngle=0, grid=False),
        scale=alt.Scale(paddingInner=0.8, paddingOuter=0.2),
    )
    marks = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke"]
    base = alt.Chart(drawn).encode(
        x=x,
        xOffset=alt.XOffset("model:N", sort=models),
        color=alt.Color(
            "model:N",
            title=None,
            scale=alt.Scale(domain=models, range=_series(len(models))),
            legend=alt.Legend(symbolOpacity=1),
        ),
    )
    rule = base.mark_rule(strokeWidth=2, opacity=0.45).encode(
        y=alt.Y(
            "low:Q",
            title=f"{title}, 95 % interval",
            scale=_share() if is_share else alt.Scale(zero=False),
            axis=_percent() if is_share else alt.Axis(),
        ),
        y2="high:Q",
    )
    line = base.mark_line(strokeWidth=2.5, opacity=0.85).encode(y="value:Q")
    point = base.mark_point(size=75, filled=True, opacity=1).encode(
        y="value:Q",
        shape=alt.Shape(
            "model:N",
            title=None,
            scale=alt.Scale(
                domain=models, range=[marks[n % len(marks)] for n in range(len(models))]
            ),
        ),
        tooltip=["model", "at", "value", "low", "high", "rank", "runs"],
    )
    return (rule + line + point).properties(width=width, height=260)


def _rank_agreement(result: Result, width: int) -> Any:
    """Kendall's tau of each pair of scaffolds, with how many pairs of models swap."""
    import altair as alt

    shown = result.frame.filter(pl.col("tau").is_not_null())
    if shown.is_empty():
        raise DerailError("no two scaffolds share three models with enough runs")
    shown = shown.with_columns(
        pl.format("{} and {}", "a", "b").alias("label"),
        pl.format(
            "{} of {} pairs swap, {} beyond noise", "discordant", "pairs", "beyond_noise"
        ).alias("told"),
    ).select("label", "tau", "low", "high", "told", "models")
    base = alt.Chart(shown).encode(y=alt.Y("label:N", title=None, sort=None))
    rule = base.mark_rule(strokeWidth=2.5, color=BLUE, opacity=0.55).encode(
        x=alt.X(
            "low:Q",
            title="Kendall's tau between the orders of models, 95 % interval",
            scale=alt.Scale(domain=[-1, 1]),
        ),
        x2="high:Q",
    )
    point = base.mark_circle(size=90, color=BLUE, opacity=1).encode(
        x="tau:Q", tooltip=["label", "tau", "low", "high", "told", "models"]
    )
    text = base.mark_text(dy=-12, fontSize=11).encode(x="tau:Q", text="told:N")
    return (rule + point + text).properties(width=width, height=alt.Step(42))


def _series(count: int) -> list[str]:
    """As many colours as there are series, from the start again after the last."""
    return [SERIES[n % len(SERIES)] for n in range(count)]


def _label(keys: tuple[str, ...]) -> pl.Expr:
    return pl.concat_str(
        [pl.col(key).cast(pl.String).fill_null("–") for key in keys], separator=" · "
    )


def _share() -> Any:
    import altair as alt

    return alt.Scale(domain=[0, 1])


def _percent(format: str = ".0%") -> Any:
    import altair as alt

    return alt.Axis(format=format)


_CHARTS: dict[str, Callable[[Result, int], Any]] = {
    "success": _success,
    "pass_k": _pass_k,
    "triggers": _forest,
    "hazard": _hazard,
    "by_step": _by_step,
    "incidence": _incidence,
    "recovery": _recovery,
    "event_study": _event_study,
    "sent_back": _sent_back,
    "factors": _factors,
    "power": _power,
    "compare": _compare,
    "continuity": _continuity,
    "rates": _rates,
    "behaviour": _behaviour,
    "components": _components,
    "ranks": _ranks,
    "rank_agreement": _rank_agreement,
    "reality": _reality,
    "axes": _axes,
    "diff": _diff,
    "surface": _surface,
}
