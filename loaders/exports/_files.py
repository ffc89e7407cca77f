"""Names of files that are written for runs."""

from __future__ import annotations

import re

from loaders.values import fingerprint

_PLAIN = re.compile(r"[a-z0-9_-]{1,64}")


def stem(trajectory_id: str) -> str:
    """What the file of a run is called: its id, or a fingerprint of an id that is no plain name.

    >>> stem("abc234def567"), stem("../../etc/passwd") == stem("../../etc/passwd")
    ('abc234def567', True)
    """
    plain = _PLAIN.fullmatch(trajectory_id) is not None
    return trajectory_id if plain else f"run-{fingerprint(trajectory_id)}"
