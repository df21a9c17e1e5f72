"""What an arm may not do worse than the control, and by how much."""

import re
from dataclasses import dataclass
from math import isfinite

from app.errors import Invalid
from app.registry.records import LABEL, OUTCOME_NAME

_LATENCY = re.compile(r"latency_p([1-9][0-9]?)")
_OUTCOME = re.compile(r"outcome:.+")


@dataclass(frozen=True)
class Guardrail:
    """A metric and the margin within which an arm counts as no worse: one of

    - `error_rate` with `margin_abs`: errors by request;
    - `latency_p95`, or any other of p1 to p99, with `margin_rel`;
    - `disagreement` with `max`: the part of shadowed requests whose top-1 is another;
    - `outcome:NAME` with `margin_abs`: the mean of what clients report. More is better, unless `lower_is_better`.

    Raises `Invalid` for any other metric, and unless the one limit that belongs to it is given, and is more than 0.
    """

    metric: str
    margin_abs: float | None = None
    margin_rel: float | None = None
    max: float | None = None
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        wanted = _limit_of(self.metric)
        given = [name for name in ("margin_abs", "margin_rel", "max") if getattr(self, name) is not None]
        if given != [wanted]:
            said = " and ".join(f"'{name}'" for name in given) or "none"
            raise Invalid(f"guardrail '{self.metric}' takes '{wanted}' as its limit, not {said}", field="guardrails")
        if not (isfinite(self.limit) and self.limit > 0):
            raise Invalid(
                f"'{wanted}' of guardrail '{self.metric}' is {self.limit}; it must be more than 0, since no number of"
                " requests can show that there is no difference at all",
                field="guardrails",
            )
        if self.outcome == LABEL:
            raise Invalid(
                f"'{LABEL}' is the right answer to a request, and no outcome that has a mean; report, say, 'right' as 1"
                " or 0, and guard that",
                field="guardrails",
            )
        if self.lower_is_better and not self.outcome:
            raise Invalid(f"'lower_is_better' is for outcomes; of '{self.metric}' it is known", field="guardrails")

    @property
    def limit(self) -> float:
        """How much worse an arm may be: the one limit that is given."""
        limit = next(each for each in (self.margin_abs, self.margin_rel, self.max) if each is not None)
        return float(limit)

    @property
    def outcome(self) -> str | None:
        """The outcome that it is about, if it is about one."""
        return self.metric.removeprefix("outcome:") if _OUTCOME.fullmatch(self.metric) else None

    @property
    def worse(self) -> int:
        """1 where more of the metric is worse, -1 where less is."""
        return -1 if self.outcome is not None and not self.lower_is_better else 1

    @property
    def title(self) -> str:
        """The metric in a word: `errors`, `p95`, `disagreement`, or the outcome's name."""
        if self.metric == "error_rate":
            return "errors"
        return self.outcome or self.metric.removeprefix("latency_")

    @property
    def quantile(self) -> float | None:
        """The quantile of latency that it is about, if it is about one."""
        latency = _LATENCY.fullmatch(self.metric)
        return int(latency[1]) / 100 if latency else None


def check_outcome_name(guardrail: Guardrail) -> None:
    """Raises `Invalid` where it is about an outcome that nobody could report: not one of those kept from earlier."""
    if guardrail.outcome is not None and not re.fullmatch(OUTCOME_NAME, guardrail.outcome):
        raise Invalid(
            f"no outcome can be called '{guardrail.outcome[:80]}': a name has up to 63 letters, digits and . _ : -, and"
            " begins with a letter or digit",
            field="guardrails",
        )


def _limit_of(metric: str) -> str:
    if metric == "error_rate" or _OUTCOME.fullmatch(metric):
        return "margin_abs"
    if _LATENCY.fullmatch(metric):
        return "margin_rel"
    if metric == "disagreement":
        return "max"
    raise Invalid(
        f"there is no metric '{metric[:80]}' to guard; there are error_rate, latency_p50 (p1 to p99), disagreement and"
        " outcome:NAME",
        field="guardrails",
    )
