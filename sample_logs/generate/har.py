"""What went over the wire, as an HTTP archive (HAR 1.2), the form in which recording proxies save it.

Of the headers only those are kept that say what the bodies are; credentials never.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_KEPT = ("accept", "anthropic-beta", "anthropic-version", "content-type", "user-agent")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


@dataclass
class Exchange:
    """One request and its response."""

    method: str
    url: str
    request_headers: Mapping[str, str]
    request: str
    status: int
    content_type: str
    response: str
    began: datetime
    milliseconds: float


def archive(exchanges: Iterable[Exchange]) -> str:
    """The text of the archive, entries in the order in which they began."""
    entries = [_entry(exchange) for exchange in sorted(exchanges, key=lambda e: e.began)]
    creator = {"name": "sample_logs", "version": "1"}
    log = {"version": "1.2", "creator": creator, "pages": [], "entries": entries}
    return json.dumps({"log": log}, separators=(",", ":")) + "\n"


def _entry(exchange: Exchange) -> dict[str, Any]:
    mime = exchange.request_headers.get("content-type", "application/json")
    return {
        "startedDateTime": exchange.began.isoformat(timespec="milliseconds"),
        "time": round(exchange.milliseconds, 1),
        "request": {
            "method": exchange.method,
            "url": exchange.url,
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": _headers(exchange.request_headers),
            "queryString": [],
            "headersSize": -1,
            "bodySize": len(exchange.request.encode()),
            "postData": {"mimeType": mime, "text": exchange.request, "params": []},
        },
        "response": {
            "status": exchange.status,
            "statusText": _REASONS.get(exchange.status, ""),
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": _headers({"content-type": exchange.content_type}),
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": len(exchange.response.encode()),
            "content": {
                "size": len(exchange.response.encode()),
                "mimeType": exchange.content_type,
                "text": exchange.response,
            },
        },
        "cache": {},
        "timings": {"send": 0, "wait": round(exchange.milliseconds, 1), "receive": 0},
    }


def _headers(headers: Mapping[str, str]) -> list[dict[str, str]]:
    kept = ((name.lower(), value) for name, value in headers.items())
    return [{"name": name, "value": value} for name, value in kept if name in _KEPT]
