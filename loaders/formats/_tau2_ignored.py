"""What of tau2-bench results is left out of the tables, and why."""

from __future__ import annotations

_MESSAGE = "/**/messages/*"
PATHS = {
    "/timestamp": "when the file was begun; each simulation has times of its own",
    "/simulations/*/timestamp": "when the simulation was written, at its end, which is kept",
    f"{_MESSAGE}/turn_idx": "the running number of the message, which its place tells",
    f"{_MESSAGE}/tool_messages/*/turn_idx": "the running number of the message, which its place tells",
    f"{_MESSAGE}/cost": "the costs of the agent and of the user, their sums, are kept",
    f"{_MESSAGE}/raw_data/index": "there is one choice",
    f"{_MESSAGE}/raw_data/id": "the provider's number of the reply, which nothing refers to",
    f"role=user {_MESSAGE}/raw_data/finish_reason": "of the simulated user, whose text is there",
    f"{_MESSAGE}/raw_data/message/tool_calls/*/type": "every call is of a function",
    f"{_MESSAGE}/raw_data/usage/service_tier": "at what priority the provider served the call",
    f"{_MESSAGE}/raw_data/usage/cache_creation/*": "how long the provider keeps its cache",
    "submission.json#/contact_info/*": "whom to ask about the submission; no fact of a run",
    "submission.json#/is_new": "how the leaderboard's page shows the submission",
}
