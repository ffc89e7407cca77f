"""Recordings of model calls written by tests, and short ways to look at what was read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

import loaders
from loaders import Trajectories

Object = dict[str, Any]


def tape(path: Path, *calls: tuple[Object, Any], url: str, code: int = 200) -> Trajectories:
    """A cassette of calls; a response is an object, or the body as it came."""
    interactions = [
        {
            "request": {"body": json.dumps(asked), "headers": {}, "method": "POST", "uri": url},
            "response": {
                "body": {"string": json.dumps(given) if isinstance(given, dict) else given},
                "status": {"code": code, "message": "-"},
            },
        }
        for asked, given in calls
    ]
    path.write_text(yaml.safe_dump({"interactions": interactions, "version": 1}))
    return loaders.load(path)


def lines(path: Path, *records: Any) -> Trajectories:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return loaders.load(path)


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def kinds(runs: Trajectories) -> list[str]:
    return [kind for (kind,) in events(runs, "kind")]


def steps(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.steps.select(columns).collect().rows()


def problems(runs: Trajectories) -> list[str]:
    return runs.problems.collect()["reason"].to_list()


def every_event_leads_to_its_record(runs: Trajectories) -> bool:
    places = runs.events.select("trajectory_id", "seq").collect().rows()
    return all(runs.raw(*place) is not None for place in places)
