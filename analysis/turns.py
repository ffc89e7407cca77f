"""The turns of a run, and cheap features of each: what a ranker of error steps looks at.

A turn is what one numbered record of the log holds: a message with its thinking and calls, or a
tool's answer. Features look at the whole run, later turns included, because they serve to explain a
failure that has happened; what may be used to foresee one is in ``localize.value``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import polars as pl

from analysis import perturbations
from analysis.parts import part_by_part
from loaders import Trajectories

_READ_CHARS: Final = 6_000  # of a turn's text; a web page goes on for long and says no more
_ENDS: Final = 400
_REAL_TEXT: Final = 40  # shorter last words say that it ends, and no answer

_SAYS: Final = {
    "assumes": r"(?i)\b(?:assum(?:e|es|ed|ing|ption)|hypothetical\w*|simulat(?:e|es|ed|ing)|placeholders?|"
    r"dummy|mock(?:ed)?|sample data|suppose|approximat\w+|estimated?)\b",
    "plans": r"(?i)\b(?:plan|step 1|first,|next,|let'?s|we (?:need|should|will)|i will|please)\b",
    "concludes": r"(?i)\b(?:therefore|thus|conclu(?:de|sion)\w*|final answer|confirmed|verified|in summary|"
    r"terminate)\b",
    "gives_up": r"(?i)\b(?:unable|cannot|can'?t|could ?n(?:o|'?)t|unfortunately|fail(?:s|ed|ure)?|not found|"
    r"no (?:results?|information|data|such))\b",
    "corrects": r"(?i)\b(?:apolog\w+|mistakes?|incorrect(?:ly)?|wrong(?:ly)?|revis(?:e|ed|ing)|instead)\b",
}
_DISAGREES: Final = (
    r"(?i)\b(?:wrong|incorrect|however|actually|apolog\w+|mistake|discrepanc\w+|inaccura\w+|issue|"
    r"invalid|not (?:correct|accurate|right|valid|satisfied)|let'?s (?:re|try|correct|fix))"
)
_CHECKS: Final = r"(?i)verif|valid|check|review|critic|test"

FEATURES: Final = {
    "position": "turns of the run before this one",
    "position_share": "position, as a share of the run",
    "turns_left": "turns after this one",
    "turns": "turns of the run",
    "is_thinking": "it is thinking",
    "is_response": "a tool or the environment speaks",
    "is_user": "a user speaks",
    "calls": "tool calls in it",
    "agents": "speakers of the run",
    "agent_order": "speakers who spoke before this speaker's first turn",
    "agent_turn": "turns of this speaker before this one",
    "agent_share": "the speaker's share of the run's turns",
    "agent_checks": "the speaker's name says that it verifies, reviews or tests",
    "same_agent": "the speaker of the turn before goes on",
    "next_same_agent": "the speaker goes on in the next turn",
    "kind_turn": "turns of this speaker and kind (message, thinking ...) before this one",
    "chars": "log of 1 + characters",
    "chars_rank": "rank of its length in the run, the longest first",
    "digit_share": "digits among its first characters",
    "numbers": "log of 1 + numbers in it",
    "code": "log of 1 + characters of arguments and code blocks",
    "urls": "log of 1 + links",
    "questions": "question marks",
    "is_json": "it holds a JSON object",
    "assumes": "it assumes, simulates or approximates",
    "plans": "it announces what to do",
    "concludes": "it draws a conclusion",
    "gives_up": "it says that something failed or was not found",
    "corrects": "it takes back or revises",
    "first_code": "the run's first turn with code",
    "first_assumes": "the run's first turn that assumes",
    "error": "an error or perturbation code in it",
    "error_before": "in the turn before",
    "error_next": "in the next turn",
    "first_failing": "the run's first turn that an error follows",
    "errors_so_far": "turns with an error before this one",
    "errors_after": "share of the later turns with an error",
    "next_response": "the next turn is a response",
    "before_response": "the turn before is a response",
    "next_disagrees": "the next turn begins or ends with a word of disagreement",
    "first_disputed": "the run's first turn that a disagreement follows",
    "disagrees": "this turn does",
    "disagree_after": "share of the later turns that do",
    "next_chars": "log of 1 + characters of the next turn",
    "before_chars": "log of 1 + characters of the turn before",
    "repeated": "the same text stood in an earlier turn",
    "novelty": "share of its words that no earlier turn has",
    "novelty_rank": "rank of that share in the run",
    "question_share": "share of its words that the question has",
    "before_share": "share of its words that the turn before has",
    "next_share": "share of its words that the next turn has",
    "kept": "share of its new words that a later turn takes up",
    "answer_share": "share of the words of the run's last message that it has",
    "answer_new": "share of the words of the run's last message that it brings in first",
    "answer_rank": "rank of that share in the run",
}
"""The features of a turn, with what each of them says. Those named by a yes or no are 1 or 0."""


def turns(runs: Trajectories) -> pl.DataFrame:
    """The turns of all runs, sorted: a row for each numbered record of a log that holds events.

    Columns: ``run``, ``trajectory_id``, ``turn`` (from 0, among those that can hold the error),
    ``seq`` (of its first event), ``last_seq``, ``step``, ``kind`` (of its first event), ``agent``
    (who speaks: the actor, or the tool, or the kind), ``text``, ``code``, ``calls``, ``error``. System
    prompts, and a question that stands outside the numbered records, are no turns.
    """
    found = perturbations.detect(runs)
    return part_by_part(runs, _turns, found)


def _turns(part: Trajectories, found: pl.DataFrame) -> pl.DataFrame:
    """Those of a part of the runs; ``found``: perturbed responses, which are judged among all of them."""
    place = (
        pl.col("source_pos")
        .str.strip_prefix(pl.col("run_pos").fill_null(""))
        .str.extract(r"^((?:.*?[/#])?L?\d+)(?:/|$)")
    )
    codes = found.lazy().select("run", "seq").unique()
    run_pos = part.trajectories.select("run", pl.col("source_pos").alias("run_pos"))
    events = (
        part.events.select(
            "run", "trajectory_id", "seq", "step", "kind", "actor", "tool", "text", "arguments",
            "is_error", "exit_code", "source_pos",
        )
        .join(run_pos, on="run", how="left", maintain_order="left")
        .join(codes.with_columns(coded=True), on=["run", "seq"], how="left", maintain_order="left")
        .with_columns(place.alias("place"))
        .filter(
            pl.col("kind") != "system",
            pl.col("place").is_not_null() | pl.col("place").is_null().all().over("run"),
        )
    )  # fmt: skip
    is_new = (pl.col("place") != pl.col("place").shift(1).over("run")).fill_null(value=True)
    speaker = pl.when(pl.col("kind") == "tool_result").then(
        pl.coalesce("actor", "tool", pl.lit("tool"))
    )
    failed = pl.any_horizontal(
        pl.col("is_error").fill_null(value=False),
        pl.col("exit_code").fill_null(0) != 0,
        pl.col("coded").fill_null(value=False),
    )
    return (
        events.with_columns((is_new.cast(pl.Int64).cum_sum().over("run") - 1).alias("turn"))
        .group_by("run", "turn", maintain_order=True)
        .agg(
            pl.col("trajectory_id").first(),
            pl.col("seq").first(),
            pl.col("seq").last().alias("last_seq"),
            pl.col("step").first(),
            pl.col("kind").first().cast(pl.String),
            pl.coalesce(speaker, "actor", pl.col("kind").cast(pl.String)).first().alias("agent"),
            pl.col("text").drop_nulls().str.join("\n"),
            pl.col("arguments").drop_nulls().str.join("\n").alias("code"),
            (pl.col("kind") == "tool_call").sum().cast(pl.Int64).alias("calls"),
            failed.any().alias("error"),
        )
        .collect()
    )


def features(runs: Trajectories, of: Iterable[str] | None = None) -> pl.DataFrame:
    """Cheap features of every turn: a row per turn, sorted by run.

    ``of``: ids of the runs whose turns are told, by default all; which tool responses are broken is
    judged among all runs.

    Columns: ``run``, ``trajectory_id``, ``turn``, ``seq``, ``last_seq``, ``step``, ``agent``, then those
    of ``FEATURES``, all numbers without nulls. None of them looks at outcomes, answers or annotations.

    >>> import loaders
    >>> table = features(loaders.load("sample_logs/frameworks"))
    >>> set(FEATURES) <= set(table.columns)
    True
    """
    found = perturbations.detect(runs)
    return part_by_part(runs if of is None else runs.filter(of), _features, found)


def _features(part: Trajectories, found: pl.DataFrame) -> pl.DataFrame:
    table = _with_places(_turns(part, found))
    table = _with_text(table)
    table = _with_neighbours(table)
    table = table.join(_words(part, table), on=["run", "turn"], how="left", maintain_order="left")
    table = _with_firsts(table)
    return table.select(
        "run", "trajectory_id", "turn", "seq", "last_seq", "step", "agent",
        *(pl.col(name).cast(pl.Float64).fill_nan(0).fill_null(0) for name in FEATURES),
    )  # fmt: skip


def _with_places(table: pl.DataFrame) -> pl.DataFrame:
    """Where in the run a turn stands, and whose it is."""
    agent = pl.col("agent")
    first_turn = pl.col("turn").min().over("run", "agent")
    return table.with_columns(
        pl.col("turn").alias("position"),
        pl.len().over("run").cast(pl.Int64).alias("turns"),
        agent.n_unique().over("run").alias("agents"),
        first_turn.rank("dense").over("run").alias("agent_order") - 1,
        pl.int_range(pl.len()).over("run", "agent").alias("agent_turn"),
        (agent == agent.shift(1).over("run")).alias("same_agent"),
        (agent == agent.shift(-1).over("run")).alias("next_same_agent"),
        agent.str.contains(_CHECKS).alias("agent_checks"),
        pl.int_range(pl.len()).over("run", "agent", "kind").alias("kind_turn"),
        pl.col("kind").eq("thinking").alias("is_thinking"),
        pl.col("kind").is_in(["tool_result", "other", "error"]).alias("is_response"),
        pl.col("kind").eq("user").alias("is_user"),
    ).with_columns(
        (pl.col("turns") - 1 - pl.col("position")).alias("turns_left"),
        (pl.col("position") / (pl.col("turns") - 1).clip(1)).alias("position_share"),
        (pl.len().over("run", "agent") / pl.col("turns")).alias("agent_share"),
    )


def _with_text(table: pl.DataFrame) -> pl.DataFrame:
    """What a turn looks like and what its words say."""
    text = pl.col("text")
    head = text.str.head(_READ_CHARS)
    ends = pl.concat_str(text.str.head(_ENDS), pl.lit("\n"), text.str.tail(_ENDS))
    chars = text.str.len_chars()
    blocks = head.str.extract_all(r"```[^`]*```").list.join("").str.len_chars()
    return table.with_columns(
        head.alias("head"),
        chars.log1p().alias("chars"),
        (head.str.count_matches(r"\d") / head.str.len_chars().clip(1)).alias("digit_share"),
        head.str.count_matches(r"\d+(?:[.,]\d+)*").log1p().alias("numbers"),
        pl.max_horizontal(blocks, pl.col("code").str.len_chars()).log1p().alias("code"),
        head.str.count_matches(r"https?://").log1p().alias("urls"),
        head.str.count_matches(r"\?").alias("questions"),
        head.str.contains(r"(?m)^\s*\{").alias("is_json"),
        *(head.str.contains(pattern).alias(name) for name, pattern in _SAYS.items()),
        ends.str.contains(_DISAGREES).alias("disagrees"),
        text.is_first_distinct().over("run").not_().alias("repeated"),
    )


def _with_neighbours(table: pl.DataFrame) -> pl.DataFrame:
    """What stands before and after a turn."""

    def shifted(name: str, by: int) -> pl.Expr:
        return pl.col(name).shift(by).over("run")

    def later(name: str) -> pl.Expr:
        value = pl.col(name).cast(pl.Float64)
        return (value.sum() - value.cum_sum()).over("run") / pl.col("turns_left").clip(1)

    error = pl.col("error").cast(pl.Int64)
    return table.with_columns(
        shifted("error", 1).alias("error_before"),
        shifted("error", -1).alias("error_next"),
        (error.cum_sum() - error).over("run").alias("errors_so_far"),
        later("error").alias("errors_after"),
        shifted("is_response", -1).alias("next_response"),
        shifted("is_response", 1).alias("before_response"),
        shifted("disagrees", -1).alias("next_disagrees"),
        later("disagrees").alias("disagree_after"),
        shifted("chars", -1).alias("next_chars"),
        shifted("chars", 1).alias("before_chars"),
    )


def _with_firsts(table: pl.DataFrame) -> pl.DataFrame:
    """What happens for the first time in the run (the earliest error is the one sought), and ranks."""

    def first(name: str) -> pl.Expr:
        happens = pl.col(name).fill_null(0) > 0
        return happens & (happens.cast(pl.Int64).cum_sum().over("run") == 1)

    def rank(name: str) -> pl.Expr:
        return pl.col(name).fill_nan(0).fill_null(0).rank(descending=True).over("run")

    return table.with_columns(
        first("code").alias("first_code"),
        first("assumes").alias("first_assumes"),
        first("error_next").alias("first_failing"),
        first("next_disagrees").alias("first_disputed"),
        rank("chars").alias("chars_rank"),
        rank("novelty").alias("novelty_rank"),
        rank("answer_new").alias("answer_rank"),
    )


def _words(runs: Trajectories, table: pl.DataFrame) -> pl.DataFrame:
    """How the words of a turn overlap with the question, its neighbours, and the last message."""
    words = (
        table.select(
            "run",
            "turn",
            pl.col("head").str.to_lowercase().str.extract_all(r"\w{2,}").list.unique().alias("w"),
        )
        .explode("w", empty_as_null=False)
        .drop_nulls("w")
        .with_columns(pl.col("w").hash(seed=0))
    )
    question = (
        runs.events.filter(pl.col("kind") == "user")
        .group_by("run", maintain_order=True)
        .agg(pl.col("text").drop_nulls().first().str.head(_READ_CHARS).alias("w"))
        .with_columns(pl.col("w").str.to_lowercase().str.extract_all(r"\w{2,}").list.unique())
        .collect()
        .explode("w", empty_as_null=False)
        .drop_nulls("w")
        .select("run", pl.col("w").hash(seed=0), asked=True)
    )
    speaks = ~pl.col("is_response") & (pl.col("text").str.len_chars() >= _REAL_TEXT)
    last = table.filter(speaks).group_by("run").agg(pl.col("turn").max().alias("last"))
    words = (
        words.join(question, on=["run", "w"], how="left")
        .join(last, on="run", how="left")
        .with_columns(
            pl.col("asked").fill_null(value=False),
            pl.col("turn").min().over("run", "w").alias("first"),
            pl.col("turn").max().over("run", "w").alias("latest"),
            (pl.col("turn") == pl.col("last")).any().over("run", "w").alias("answered"),
        )
        .sort("run", "w", "turn")
        .with_columns(
            pl.col("turn").shift(1).over("run", "w").eq(pl.col("turn") - 1).alias("was_before"),
            pl.col("turn").shift(-1).over("run", "w").eq(pl.col("turn") + 1).alias("is_next"),
        )
    )
    is_new = (pl.col("first") == pl.col("turn")) & ~pl.col("asked")
    answer = pl.col("answered") & ~pl.col("asked")
    size = words.filter(pl.col("turn") == pl.col("last"), ~pl.col("asked"))
    size = size.group_by("run").agg(pl.len().alias("answer_words"))
    return (
        words.group_by("run", "turn")
        .agg(
            is_new.mean().alias("novelty"),
            pl.col("asked").mean().alias("question_share"),
            pl.col("was_before").fill_null(value=False).mean().alias("before_share"),
            pl.col("is_next").fill_null(value=False).mean().alias("next_share"),
            ((is_new & (pl.col("latest") > pl.col("turn"))).sum() / is_new.sum().clip(1)).alias(
                "kept"
            ),
            answer.sum().alias("has"),
            (answer & is_new).sum().alias("brings"),
        )
        .join(size, on="run", how="left")
        .with_columns(
            (pl.col("has") / pl.col("answer_words")).alias("answer_share"),
            (pl.col("brings") / pl.col("answer_words")).alias("answer_new"),
        )
    )
