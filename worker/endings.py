"""How an attempt at a job can end."""

from dataclasses import dataclass

from app.contracts.outcome import Outcome


@dataclass(frozen=True)
class Succeeded:
    """The job is done; its artifact lies in its folder."""

    outcome: Outcome

    def __str__(self) -> str:
        return "succeeded"


@dataclass(frozen=True)
class Failed:
    """The job cannot be done; `error` tells the client why, `traceback` tells an administrator where."""

    error: str
    traceback: str | None = None

    def __str__(self) -> str:
        return f"failed: {self.error}"


@dataclass(frozen=True)
class Cancelled:
    """The client no longer wants the job."""

    def __str__(self) -> str:
        return "cancelled"


@dataclass(frozen=True)
class Released:
    """The worker stops, and gives the job back untried."""

    def __str__(self) -> str:
        return "released, since the worker stops"


Ending = Succeeded | Failed | Cancelled | Released
