"""Analysis: where an agent's performance breaks down, because of what, and how sure that is.

Each module takes ``loaders.Trajectories``; the heavy drawing libraries are imported when drawn with.
"""

from analysis import (
    ablation,
    axes,
    behaviour,
    breakdown,
    generalization,
    localize,
    outcomes,
    perturbations,
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
    "generalization",
    "localize",
    "outcomes",
    "perturbations",
    "report",
    "survival",
    "thinking",
]
