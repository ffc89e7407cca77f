"""Analysis: where an agent's performance breaks down, because of what, and how sure that is.

Each module takes ``loaders.Trajectories``. Modules are imported when they are first named, so that
``import analysis`` costs next to nothing; the heavy drawing libraries when they are drawn with.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis import (
        ablation,
        axes,
        behaviour,
        breakdown,
        cells,
        flow,
        generalization,
        localize,
        outcomes,
        perturbations,
        raster,
        report,
        survival,
        thinking,
    )
    from analysis.results import Result

__all__ = [
    "Result",
    "ablation",
    "axes",
    "behaviour",
    "breakdown",
    "cells",
    "flow",
    "generalization",
    "localize",
    "outcomes",
    "perturbations",
    "raster",
    "report",
    "survival",
    "thinking",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Result":
        return import_module("analysis.results").Result
    return import_module(f"analysis.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
