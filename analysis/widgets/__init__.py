"""Widgets for notebooks: from a number to the runs behind it, to the step where it went wrong.

``Explorer``, ``BreakdownFinder``, ``AblationBuilder``, ``FigureStudio`` and ``Timeline`` take runs in
memory or scanned from a store. All that the mouse does in them, the keyboard and Python do as well.
"""

from analysis.widgets.ablation_builder import AblationBuilder
from analysis.widgets.breakdown_finder import BreakdownFinder
from analysis.widgets.explorer import Explorer
from analysis.widgets.figure_studio import FigureStudio
from analysis.widgets.timeline import Timeline

__all__ = ["AblationBuilder", "BreakdownFinder", "Explorer", "FigureStudio", "Timeline"]
