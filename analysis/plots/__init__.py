"""Statistics as Altair charts: a function from a result to a chart, one theme, no network.

A chart is added by adding a module to this folder: a function under ``@draws("kind")``
(:mod:`analysis.plots.registry`) becomes the usual chart of results of that kind.
"""

from analysis.plots.export import Exported, export
from analysis.plots.registry import caption_of, chart, counts_of, draws, figures, kinds
from analysis.plots.render import to_pdf, to_png, to_svg, use_offline_renderer

__all__ = [
    "Exported",
    "caption_of",
    "chart",
    "counts_of",
    "draws",
    "export",
    "figures",
    "kinds",
    "to_pdf",
    "to_png",
    "to_svg",
    "use_offline_renderer",
]
