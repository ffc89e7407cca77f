"""What an analysis returns: the frame, the method, the warnings, and the runs behind each number."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import polars as pl

from loaders import Trajectories
from loaders.errors import DerailError


@dataclass(frozen=True)
class Result:
    """A table of estimates that knows where its numbers come from.

    ``kind`` which analysis made it; ``frame`` the estimates, a row each; ``keys`` the columns that name a row; ``members`` which
    runs stand behind which row (``keys``, ``trajectory_id``, ``role``); ``method`` in a sentence;
    ``warnings`` what a reader must know before quoting; ``runs(...)`` opens the runs; ``call`` how it was computed, as Python.
    """

    kind: str
    title: str
    frame: pl.DataFrame
    method: str
    keys: tuple[str, ...]
    members: pl.DataFrame
    source: Trajectories = field(repr=False)
    warnings: tuple[str, ...] = ()
    headline: str = ""
    call: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.call:
            object.__setattr__(self, "call", _call(inspect.currentframe()))

    def counts(self) -> dict[str, int]:
        """How many ``tasks`` and ``runs`` stand behind the result; no tasks where logs name none."""
        behind = self.members.lazy().select("trajectory_id").unique()
        found = (
            self.source.trajectories.select("trajectory_id", "benchmark", "task_id")
            .join(behind, on="trajectory_id", how="semi")
            .select(
                pl.struct("benchmark", "task_id").filter(pl.col("task_id").is_not_null()).n_unique()
                .alias("tasks"),
                pl.len().alias("runs"),
            )
            .collect()
        )  # fmt: skip
        return found.row(0, named=True)

    def runs(self, role: str | None = None, **key: Any) -> Trajectories:
        """The runs behind the rows whose key columns have these values, in this ``role``.

        Without arguments: all runs behind the result. Roles are in ``members``.

        Raises ``DerailError`` where a column is no key, or nothing stands behind the row.
        """
        found = self.members
        for name, value in key.items():
            if name not in self.keys:
                raise DerailError(
                    f"{name!r} names no row here; rows are named by {list(self.keys)}"
                )
            found = found.filter(pl.col(name).eq_missing(pl.lit(value)))
        if role is not None:
            found = found.filter(pl.col("role") == role)
        if found.is_empty():
            roles = ", ".join(map(repr, self.members["role"].unique().sort().to_list()))
            raise DerailError(f"no run behind {key or 'this result'} (roles: {roles})")
        return self.source.filter(found["trajectory_id"].unique().to_list())

    def chart(self, **options: Any) -> Any:
        """The usual Altair chart of this result.

        Statistics never import the drawing layer; it is looked up when a chart is asked for.
        """
        return importlib.import_module("analysis.plots").chart(self, **options)

    def to_latex(self, **options: Any) -> str:
        """A LaTeX table (booktabs, decimals aligned by siunitx); see ``analysis.paper.to_latex``."""
        return importlib.import_module("analysis.paper").to_latex(self, **options)

    def to_markdown(self, **options: Any) -> str:
        """A Markdown table; see ``analysis.paper.to_markdown``."""
        return importlib.import_module("analysis.paper").to_markdown(self, **options)

    def __repr__(self) -> str:
        with pl.Config(tbl_rows=30, tbl_cols=20, tbl_width_chars=160, fmt_str_lengths=48):
            table = repr(self.frame)
        lines = [self.title, *([self.headline] if self.headline else []), table]
        lines += [f"Method: {self.method}", *(f"Warning: {text}" for text in self.warnings)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return importlib.import_module("analysis.result_html").of_result(self)


def empty_members(*keys: str) -> pl.DataFrame:
    """A ``members`` frame without rows."""
    return pl.DataFrame(schema=dict.fromkeys((*keys, "trajectory_id", "role"), pl.String))


_LONGEST_ARGUMENT = 80


def _call(frame: FrameType | None) -> str:
    """The call of the public function that is making a result, such as ``outcomes.success(runs, by='arm')``.

    Read off the stack, so that no analysis has to repeat its own arguments; empty where a result is
    made by hand.
    """
    while frame is not None and frame.f_globals.get("__name__") in (__name__, None):
        frame = frame.f_back  # this module, and the initialiser that dataclasses write
    while frame is not None:
        module, name = str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
        if not module.startswith("analysis."):
            return ""
        if not name.startswith(("_", "<")):
            code = frame.f_code
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            positional = names[: code.co_argcount]
            told = [
                _argument(frame.f_locals[n])
                if n in positional[:1]
                else f"{n}={_argument(frame.f_locals[n])}"
                for n in names
                if n in frame.f_locals
            ]
            return f"{module}.{name}({', '.join(told)})"
        frame = frame.f_back
    return ""


def _argument(value: Any) -> str:
    if isinstance(value, Trajectories):
        return "runs"
    if isinstance(value, pl.DataFrame | pl.LazyFrame):
        return "frame"
    text = repr(value)
    return text if len(text) <= _LONGEST_ARGUMENT else f"{text[: _LONGEST_ARGUMENT - 1]}…"
