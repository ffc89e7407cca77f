# pyright: basic, reportMissingImports=false
"""Print what Harbor's own models read of a folder of trajectories, as JSON by ``trajectory_id``.

Runs in an environment of its own: arguments are where Harbor is unpacked, and the folder.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from harbor.models.trajectories import Trajectory

counted = {}
for file in sorted(Path(sys.argv[2]).glob("*.json")):
    text = file.read_text()
    trajectory = Trajectory.model_validate_json(text)
    results = [r for s in trajectory.steps if s.observation for r in s.observation.results]
    counted[trajectory.trajectory_id] = {
        "version": trajectory.schema_version,
        "nothing_dropped": trajectory.to_json_dict() == json.loads(text),
        "sources": Counter(step.source for step in trajectory.steps),
        "model_calls": sum(step.llm_call_count == 1 for step in trajectory.steps),
        "reasoning": sum(step.reasoning_content is not None for step in trajectory.steps),
        "tool_calls": sum(len(step.tool_calls or ()) for step in trajectory.steps),
        "answered": sum(result.source_call_id is not None for result in results),
        "results": len(results),
        "subagents": sum(len(result.subagent_trajectory_ref or ()) for result in results),
    }
print(json.dumps(counted))
