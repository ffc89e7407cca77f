"""HTTP archives (HAR) of calls of model APIs, as browsers and recording proxies export them.

The request that stands in an archive is what the model was sent: evidence of the best grade. Entries
are ordered by when they began; calls are taken in the order in which they were answered. Bodies may
be in base64 or packed, and streamed replies are put together again. What is no call of a model (pages,
telemetry, counting of tokens) is counted, not told.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from loaders.bodies import body_value
from loaders.builder import Builder
from loaders.conversations import Recorded
from loaders.heads import Head
from loaders.proxies import told_headers
from loaders.recordings import Recording
from loaders.recordings_ignored import IGNORED as IGNORED_OF_CALLS
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "HTTP archive (HAR) of model calls"
GIVES = ("thinking", "sent", "tools", "tokens")

IGNORED = {
    **IGNORED_OF_CALLS,
    "/log/version": "the version of the archive's layout",
    "/log/creator/**": "the name and version of what recorded the calls",
    "/log/browser/**": "the name and version of what recorded the calls",
    "/log/pages/**": "pages of a browser, which calls of a model have nothing to do with",
    "/log/entries/*/pageref": "the page of a browser from which the call was made",
    "/log/entries/*/_*/**": "what one browser notes for itself of how it made the call",
    "/log/entries/*/cache/**": "what the browser had in its own cache before the call",
    "/log/entries/*/connection": "the number of the connection over which the call went",
    "/log/entries/*/serverIPAddress": "the address behind the host's name, which is kept",
    "/log/entries/*/timings/**": "the parts of the time that the call took, which is kept",
    "/log/entries/*/*/bodySize": "the length of the body, which is told",
    "/log/entries/*/*/headersSize": "the length of the headers",
    "/log/entries/*/*/httpVersion": "the version of HTTP under the call",
    "/log/entries/*/*/cookies/**": "secrets between client and service",
    "/log/entries/*/request/method": "calls of a model are all of one method",
    "/log/entries/*/request/headers/**": "the client's name and the features it asks for are kept; "
    "the others are about the transfer, or secret",
    "/log/entries/*/request/queryString/**": "the address, which is kept, ends in it",
    "/log/entries/*/request/postData/mimeType": "the body itself shows that it is JSON",
    "/log/entries/*/response/headers/**": "kinds and lengths of bodies, names for support",
    "/log/entries/*/response/status": "a call that failed tells its error; the others are all alike",
    "/log/entries/*/response/statusText": "a call that failed tells its error; the others are all alike",
    "/log/entries/*/response/redirectURL": "a call that is sent elsewhere is followed by the other one",
    "/log/entries/*/response/content/size": "the length of the body, which is told",
    "/log/entries/*/response/content/compression": "how much shorter the body was when it was sent",
    "/log/entries/*/response/content/mimeType": "the body itself shows whether it is JSON or a stream",
    "/log/entries/*/response/content/encoding": "the text itself shows whether it is in base64",
}
_LOG_KEYS = {"version", "creator", "browser", "pages", "entries"}
_LONGEST_MS = 30 * 86_400_000


def sniff(head: Head) -> bool:
    """An object whose ``log`` has at least two of the keys that an archive begins with."""
    log = head.first.get("log")
    if head.is_json_lines or not is_object(log):
        return False
    return len(_LOG_KEYS & log.keys()) > 1 or _is_entry(next(iter(as_array(log.get("entries"))), 0))


def _is_entry(entry: Any) -> bool:
    return is_object(entry) and is_object(entry.get("request")) and "startedDateTime" in entry


def read(source: Source, out: Builder) -> None:
    """One run per conversation that the archive's calls belong to."""
    entries = as_object(as_object(source.json()).get("log")).get("entries")
    if not is_array(entries):
        out.problem("/log/entries", "an archive without entries")
        return
    recording = Recording(out)
    for call in sorted(_calls(entries, out), key=_answered_at):
        recording.add(call)
    recording.close()


def _answered_at(call: Recorded) -> tuple[float, int]:
    """When a call ended; one without a time counts as ended where it stands."""
    moment = call.ended_at or call.started_at
    return (moment.timestamp() if moment else 0.0, call.order)


def _calls(entries: list[Any], out: Builder) -> Iterator[Recorded]:
    for index, entry in enumerate(entries):
        pos = f"/log/entries/{index}"
        if not is_object(entry):
            out.problem(pos, "no entry of an archive")
            continue
        request, response = as_object(entry.get("request")), as_object(entry.get("response"))
        content = as_object(response.get("content"))
        sent, answered = None, None
        with out.record(f"{pos}/request"):
            sent = body_value(as_object(request.get("postData")).get("text"))
        with out.record(f"{pos}/response"):
            answered = body_value(content.get("text"))
        if answered is None and (as_int(content.get("size")) or 0) > 0:
            out.problem(f"{pos}/response/content", "the archive left out this body", "warning")
        began = as_time(entry.get("startedDateTime"))
        yield Recorded(
            as_object(sent),
            answered,
            pos + _place_in(entry, "request", "postData", "text"),
            pos + _place_in(entry, "response", "content", "text"),
            _status(response),
            began,
            _end_of(began, entry),
            url=as_text(request.get("url")),
            extra=told_headers(request.get("headers")) | _comment(entry),
            order=index,
        )


def _place_in(entry: Object, *keys: str) -> str:
    """The pointer to a body, or as far as the entry goes where it has none."""
    place, value = "", entry
    for key in keys:
        if not is_object(value) or key not in value:
            break
        place, value = f"{place}/{key}", value[key]
    return place


def _comment(entry: Object) -> Object:
    comment = as_text(entry.get("comment"))
    return {"comment": comment} if comment else {}


def _status(response: Object) -> int | None:
    """The status; 0 stands for no answer."""
    return as_int(response.get("status")) or None


def _end_of(began: datetime | None, entry: Object) -> datetime | None:
    elapsed = as_float(entry.get("time"))
    if began is None or elapsed is None or not 0 <= elapsed < _LONGEST_MS:
        return None
    return began + timedelta(milliseconds=elapsed)
