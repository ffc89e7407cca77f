"""Loaders: the logs of many agent frameworks in one trajectory schema.

``load`` reads logs, ``available`` lists the formats, ``scan`` opens what ``save`` kept.
"""

from loaders.accounting import coverage
from loaders.errors import DerailError, LoadError, UnreadableRecord
from loaders.memory import from_frame, from_messages
from loaders.reading import load
from loaders.registry import available
from loaders.trajectories import Trajectories, scan

__all__ = [
    "DerailError",
    "LoadError",
    "Trajectories",
    "UnreadableRecord",
    "available",
    "coverage",
    "from_frame",
    "from_messages",
    "load",
    "scan",
]
