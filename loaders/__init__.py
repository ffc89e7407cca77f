"""Loaders: the logs of many agent frameworks in one trajectory schema.

``load`` reads logs, ``available`` lists the formats, ``scan`` opens what ``save`` kept,
``export`` writes runs out for other tools.
"""

from loaders.accounting import coverage
from loaders.errors import DerailError, LoadError, UnreadableRecord
from loaders.exports import export
from loaders.memory import from_frame, from_messages
from loaders.reading import load
from loaders.registry import available
from loaders.trajectories import Trajectories, scan
from loaders.wire import attach_wire

__all__ = [
    "DerailError",
    "LoadError",
    "Trajectories",
    "UnreadableRecord",
    "attach_wire",
    "available",
    "coverage",
    "export",
    "from_frame",
    "from_messages",
    "load",
    "scan",
]
