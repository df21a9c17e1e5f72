"""Where the time of a request went, for its client."""

from app.serving.batch_queue import Timing


def server_timing(timing: Timing) -> str:
    """In the form of HTTP's `Server-Timing`, in milliseconds; the computing is that of the whole batch."""
    queue_ms, compute_ms = timing.queue_ns / 1e6, timing.compute.total_ns / 1e6
    return f'queue;dur={queue_ms:.3f}, compute;dur={compute_ms:.3f}, batch;desc="{timing.batch_rows}"'
