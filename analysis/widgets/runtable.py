"""A frame of runs or pairs as a list to click: the head of it, and the rest when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from analysis.widgets.pieces import RunList
from analysis.widgets.strips import shown

HEAD: Final = 12
PAGE: Final = 1_000

_LABELS: Final = {"task_id": "task", "_matches": "matches", "_thinking": "earlier thinking"}


class RunTable(RunList):
    """Rows of a frame; only those on screen go to the browser. ``frame`` holds all of them."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.frame = pl.DataFrame()
        self._names: list[str] = []
        self._id, self._words, self._labels = "trajectory_id", {}, dict(_LABELS)
        self._listed = HEAD
        self.on_click("more", self._more)

    def fill(
        self,
        title: str,
        note: str,
        frame: pl.DataFrame,
        columns: Sequence[str],
        *,
        id_column: str = "trajectory_id",
        labels: Mapping[str, str] | None = None,
        words: Mapping[str, str] | None = None,
    ) -> None:
        """List this frame; columns it does not have are left out, ``words`` replace values."""
        self.frame, self._id = frame, id_column
        self._names = [name for name in dict.fromkeys(columns) if name in frame.columns]
        self._labels, self._words = {**_LABELS, **(labels or {})}, dict(words or {})
        self._listed = HEAD
        with self.together():
            self.title, self.note, self.picked = title, note, None
            self._show_head()

    def _more(self) -> None:
        self._listed += PAGE
        with self.together():
            self._show_head()

    def _show_head(self) -> None:
        head = self.frame.head(self._listed)
        hidden = self.frame.height - head.height
        self.columns = [
            {"label": self._labels.get(name, name), "kind": self._kind(name)}
            for name in self._names
        ]
        cells = head.select(self._names).rows() if self._names else []
        ids = head[self._id].cast(pl.String).to_list() if self._names else []
        self.rows = [
            {"id": id_, "cells": [self._text(value) for value in row]}
            for id_, row in zip(ids, cells, strict=True)
        ]
        self.hidden = hidden
        total = f"{self.frame.height:,}"
        self.more = f"show all {total}" if hidden <= PAGE else f"show {PAGE:,} more of {hidden:,}"

    def _kind(self, name: str) -> str:
        if name == "outcome":
            return "outcome"
        return "number" if self.frame.schema[name].is_numeric() else ""

    def _text(self, value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{value:,}"
        return self._words.get(str(value), shown(value))
