"""Traces for OpenTelemetry, where the extra `otel` is installed: a span for each request, and where its time went.

Where traces go is said in OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.
"""

import time
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from app import __version__
from app.errors import Unavailable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

    from app.inference.response import InferenceResponse

# Asked every few seconds by whoever watches the service.
_UNTRACED = "/v2/health/.*,/metrics"


class Tracing:
    """Raises `Unavailable` where the extra is missing. `processor`: where spans go; to OTLP over HTTP, when None."""

    def __init__(self, processor: "SpanProcessor | None" = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise Unavailable("OCTET_TRACING needs OpenTelemetry: pip install 'octet[otel]'") from error
        # Variables of the environment win over these.
        resource = Resource.create({"service.name": "octet", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("octet", __version__)

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app`, each request of which is a span that continues the client's trace (`traceparent`), if it has one."""
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        return OpenTelemetryMiddleware(
            app, tracer_provider=self._provider, excluded_urls=_UNTRACED, exclude_spans=["receive", "send"]
        )

    def answered(self, response: "InferenceResponse") -> None:
        """Spans below the request's: its time in line, and the computing of its batch."""
        timing = response.timing
        if timing is None:
            return
        names: dict[str, str | int] = {
            "octet.model": response.variant.model,
            "octet.variant": response.variant.label,
            "octet.version": response.variant.version,
            "octet.batch_rows": timing.batch_rows,
        }
        end_ns = time.time_ns()
        begun_ns = end_ns - timing.compute.total_ns
        for name, start, end in (("queue", begun_ns - timing.queue_ns, begun_ns), ("compute", begun_ns, end_ns)):
            self._tracer.start_span(name, start_time=start, attributes=names).end(end)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()
