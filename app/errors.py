"""The one hierarchy of errors. Each says, as a sentence for the client, what was wrong and what would be right.

`app.api.problems` maps the classes named here to HTTP, and `app.inference.grpc.statuses` to gRPC; no other place does.
"""

import errno
import math
from collections.abc import Sequence


class OctetError(Exception):
    """Anything that goes wrong in a way a client or an operator can act on."""

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class Invalid(OctetError):
    """The request is understood, and what it asks or carries is wrong."""


class NotFound(OctetError):
    """The thing named does not exist."""


class Conflict(OctetError):
    """The request contradicts the present state."""


class PreconditionFailed(Conflict):
    """The request was made for a state that the thing is no longer in."""


class PreconditionRequired(Conflict):
    """The request must say which state it was made for."""


class Unauthenticated(OctetError):
    """The request must show a key, or a better one."""


class Forbidden(OctetError):
    """Whoever asks may not."""


class ScopeTooSmall(Forbidden):
    def __init__(self, needed: str, scope: str) -> None:
        super().__init__(f"this needs a key of scope '{needed}', and the key shown is of scope '{scope}'")


class ModelForbidden(Forbidden):
    """The key is for other models; whether there is such a model is not told."""

    def __init__(self, model: str, pattern: str) -> None:
        super().__init__(f"the key shown is for models '{pattern}', and not for '{model[:80]}'", field="model")


class TooMuch(OctetError):
    """More than the key may ask for at this time; it may again in `retry_after_s`."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class RateExceeded(TooMuch):
    def __init__(self, rate: float, retry_after_s: float) -> None:
        super().__init__(f"the key may make {rate:g} requests a second, and has made more", retry_after_s)


class QuotaExceeded(TooMuch):
    def __init__(self, quota_bytes: int, left_bytes: int, retry_after_s: float) -> None:
        super().__init__(
            f"the key may upload {quota_bytes} bytes a day, of which {left_bytes} are left until midnight (UTC)",
            retry_after_s,
        )


class LengthRequired(OctetError):
    """The size of the body must be known before it comes."""


class TooLarge(OctetError):
    """The body, or what it unpacks to, is over a limit."""


class Unsupported(OctetError):
    """A known feature of a protocol or format that is not offered here."""


class Unavailable(OctetError):
    """Cannot be served now; the same request may succeed later."""

    #: When it is worth another try.
    retry_after_s: int = 5


class QueueFull(Unavailable):
    """As many rows wait for the variant as may wait."""

    def __init__(self, model: str, rows: int) -> None:
        super().__init__(f"model '{model}' has {rows} rows waiting, as many as may wait; try again later")


class DeadlineUnmet(Unavailable):
    """The answer would come too late, so it was not computed. Triton calls this unavailable too: 503, not 504."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Request timeout expired: model '{model}' cannot answer within the request's 'timeout'")


class CallTooShort(DeadlineUnmet):
    """The same where it is the call itself, not a parameter of it, that would end sooner."""


class Unloaded(Unavailable):
    """An operator has taken the variant out of memory, and it answers nothing until it is loaded."""

    def __init__(self, model: str, variant: str) -> None:
        super().__init__(
            f"Request for unknown model: '{model}@{variant}' was unloaded; to load it:"
            f" POST /v2/repository/models/{model}@{variant}/load"
        )


class Crashed(Unavailable):
    """The process of a model ended while it computed. 503: whose request it was nobody can tell, when several ran."""

    retry_after_s = 1

    def __init__(self, how: str, model: str | None = None, *, before: bool = False) -> None:
        """`before`: it had ended before it heard of this request."""
        name = f"model '{model}'" if model is not None else "the model"
        super().__init__(
            f"the process of {name} ended while it computed this request, or another at the same time: {how};"
            " the next request starts it anew"
        )
        self.how = how
        self.before = before

    def of(self, model: str) -> "Crashed":
        """The same, with the name that the client knows."""
        return Crashed(self.how, model, before=self.before)


class Quarantined(Unavailable):
    """The model's process has crashed too often to be started again at once."""

    def __init__(self, crashes: int, seconds: float, model: str | None = None) -> None:
        name = f"model '{model}'" if model is not None else "the model"
        self.retry_after_s = max(1, math.ceil(seconds))
        super().__init__(
            f"the process of {name} has crashed {crashes} times in a short while; it is not started again for"
            f" {self.retry_after_s} s"
        )
        self.crashes = crashes
        self.seconds = seconds

    def of(self, model: str) -> "Quarantined":
        """The same, with the name that the client knows."""
        return Quarantined(self.crashes, self.seconds, model)


class UnknownEngine(Unavailable):
    """A model needs an engine that this process does not have."""


class NoSpace(OctetError):
    """The disk that holds uploads and artifacts is full."""


def is_full(error: BaseException | None) -> bool:
    """Whether the system refused something for want of room on a disk."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


class UnknownModel(NotFound):
    def __init__(self, model: str) -> None:
        super().__init__(f"Request for unknown model: '{model}' is not registered", field="model")


class UnknownRevision(NotFound):
    def __init__(self, model: str, revision: int) -> None:
        super().__init__(f"model '{model}' has no revision {revision}", field="revision")


class UnknownVariant(NotFound):
    def __init__(self, model: str, variant: str, known: list[str]) -> None:
        super().__init__(
            f"Request for unknown model: '{model}' has no variant '{variant}'; it has {', '.join(known) or 'none'}",
            field="variant",
        )


class UnknownDataset(NotFound):
    def __init__(self, dataset: str) -> None:
        super().__init__(
            f"dataset '{dataset}' is not registered; upload it with POST /api/v1/datasets", field="dataset"
        )


class UnknownPoint(NotFound):
    def __init__(self, point: str) -> None:
        super().__init__(
            f"there is no point '{point}'; GET /api/v1/models/{{model}}/points lists those that searches found",
            field="options.point",
        )


class UnknownJob(NotFound):
    def __init__(self, job: str) -> None:
        super().__init__(f"there is no job '{job}'", field="id")


class UnknownKey(NotFound):
    def __init__(self, key: str) -> None:
        super().__init__(f"there is no key '{key}'", field="id")


class UnknownExperiment(NotFound):
    def __init__(self, experiment: str) -> None:
        super().__init__(f"there is no experiment '{experiment}'", field="experiment")


class Rejected(Conflict):
    """The variant broke its budget, and nobody has decided that it serves all the same."""

    def __init__(self, model: str, variant: str, reasons: Sequence[str]) -> None:
        super().__init__(
            f"variant '{variant}' of '{model}' was rejected: {'; '.join(reasons)}. To serve it all the same:"
            f" PUT /api/v1/models/{model}/variants/{variant}/override",
            field="variant",
        )


class AlreadyQuantized(Conflict):
    """The method starts from FP32, and the upload is of integers already."""

    def __init__(self, method: str, operators: Sequence[str]) -> None:
        super().__init__(
            f"the upload is quantized already: it holds {', '.join(operators)}. Method '{method}' starts from FP32:"
            " upload the FP32 model that this one was made from. As it is, it can be served, and measured by method"
            " 'evaluate'",
            field="method",
        )


class MissingBlob(NotFound):
    """The blob store does not have what a row of the registry names, or named until now."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} is missing from the blob store")


class InvalidName(Invalid):
    def __init__(self, field: str, name: str) -> None:
        super().__init__(
            f"{field} {name[:80]!r} is not a valid name: 1 to 63 characters of a-z, 0-9, '.', '_' and '-',"
            " the first a letter or digit",
            field=field,
        )


class InvalidModel(Invalid):
    """The uploaded file is not a model that can be served."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, field="file")


class TooMuchMemory(Invalid):
    """Running the model on these inputs takes more memory than its process may have."""


class InvalidDataset(Invalid):
    """The uploaded file is not a usable dataset."""

    def __init__(self, detail: str, *, field: str = "file") -> None:
        super().__init__(detail, field=field)


class DatasetMismatch(Invalid):
    """The dataset's arrays are not what the model's inputs need."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, field="dataset")


class NotQuantizable(Invalid):
    """The method finds nothing in this model that it could make smaller or faster."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, field="method")


class JobFailed(OctetError):
    """The work of a job cannot be done; the detail becomes the job's `error`."""


class LeaseLost(OctetError):
    """Another worker has the job now, or it was cancelled; what this one made must not be published."""
