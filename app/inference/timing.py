"""Where the time of a request went, for its client."""

from app.serving.lane import Figures


def server_timing(figures: Figures) -> str:
    """In the form of HTTP's `Server-Timing`, in milliseconds; the computing is that of the whole batch."""
    queue_ms, compute_ms = figures.queue_ns / 1e6, figures.compute.total_ns / 1e6
    return f'queue;dur={queue_ms:.3f}, compute;dur={compute_ms:.3f}, batch;desc="{figures.batch_rows}"'
