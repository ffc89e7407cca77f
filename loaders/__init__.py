"""Loaders: the logs of many agent frameworks in one trajectory schema.

``load`` reads logs, ``convert`` writes them into a store, which ``scan`` opens, ``available`` lists
the formats, ``export`` writes runs out for other tools.
"""

from loaders.accounting import coverage
from loaders.converting import convert
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
    "convert",
    "coverage",
    "export",
    "from_frame",
    "from_messages",
    "load",
    "scan",
]
