"""Server-sent events: the changes of a resource, those so far and those to come (HTML standard, section 9.2)."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.errors import Invalid

_POLL_SECONDS = 0.2
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Event:
    """A change. `id` grows with each event of a stream; `data` is JSON."""

    id: int
    kind: str
    data: str


#: Takes the id of an event; returns the events after it, and whether none can follow them.
EventSource = Callable[[int], tuple[Sequence[Event], bool]]


def documented(example: str, description: str) -> dict[str, Any]:
    """Describe an answer of this kind for the OpenAPI document."""
    return {"description": description, "content": {"text/event-stream": {"example": example}}}


def response(source: EventSource, last_event_id: str | None) -> EventSourceResponse:
    """Stream the events of `source` that come after `last_event_id`, until none can follow.

    Raises:
        Invalid: `last_event_id` is not the id of an event.
    """
    if last_event_id is not None and not (last_event_id.isascii() and last_event_id.isdigit()):
        raise Invalid("Last-Event-ID must be the id of an event", field="Last-Event-ID")
    return EventSourceResponse(_stream(source, min(int(last_event_id or 0), _LARGEST_ID)))


async def _stream(source: EventSource, last_id: int) -> AsyncIterator[ServerSentEvent]:
    while True:
        events, over = await run_in_threadpool(source, last_id)
        for event in events:
            last_id = event.id
            yield ServerSentEvent(id=str(event.id), event=event.kind, data=event.data)
        if over:
            return
        await anyio.sleep(_POLL_SECONDS)
