"""The environment of the processes that are measured."""

from __future__ import annotations

import os


def as_users_have_it(**more: str) -> dict[str, str]:
    """The variables of this process, and ``more``, for one that is measured.

    Bytecode is kept, as it is by default: where ``PYTHONDONTWRITEBYTECODE`` is set, each new process
    would compile Polars again, which takes longer than all that is measured of small logs.
    """
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **more}
