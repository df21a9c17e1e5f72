"""What a client gets, whichever face of the protocol renders it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.engines.engine import Array
from app.experiments.live import Reason
from app.inference.served_variant import ServedVariant
from app.inference.validation import Plan
from app.serving.batch_queue import Timing


class OutputTensor(NamedTuple):
    """One output. `binary`: the client wants its bytes, not JSON."""

    name: str
    datatype: str
    array: Array
    binary: bool


@dataclass(slots=True)
class InferenceResponse:
    """The answer of `variant`. `plan`: what the request was found to want; faces keep rendered parts there."""

    variant: ServedVariant
    outputs: Sequence[OutputTensor]
    id: str | None = None
    timing: Timing | None = None
    experiment: str | None = None
    reason: Reason | None = None
    plan: Plan | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """What the client is told about its answer."""
        parameters = {"variant": self.variant.label}
        if self.experiment is not None and self.reason is not None:
            parameters |= {"experiment": self.experiment, "assignment_reason": self.reason.value}
        return parameters


def server_timing(timing: Timing) -> str:
    """In the form of HTTP's `Server-Timing`, in milliseconds; the computing is that of the whole batch."""
    input_ns, infer_ns, output_ns = timing.compute
    return 'queue;dur=%.3f, compute;dur=%.3f, batch;desc="%d"' % (  # noqa: UP031 - half the time of an f-string
        timing.queue_ns / 1e6,
        (input_ns + infer_ns + output_ns) / 1e6,
        timing.batch_rows,
    )
