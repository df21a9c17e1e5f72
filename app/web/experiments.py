"""Experiments as pages say them: who takes part, what differs and by how much of what may, and what happened when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.experiments.definition import guardrails_of, split_of
from app.experiments.guardrails import Guardrail
from app.registry import experiments
from app.registry.live import LIVE
from app.registry.tables import Experiment, ExperimentEvent
from app.web import formats
from app.web.charts import Tone

Json = Mapping[str, Any]

STATE_TONES: dict[str, Tone] = {
    "draft": "plain",
    "running": "good",
    "paused": "warn",
    "stopped": "plain",
    "rolled_back": "bad",
    "promoted": "accent",
}
WORDS: dict[str, tuple[str, Tone]] = {
    "better": ("Better", "good"),
    "not_worse": ("Not worse", "good"),
    "worse": ("Worse", "bad"),
    "inconclusive": ("Not known yet", "plain"),
}
_ARM_TONES: tuple[Tone, ...] = ("plain", "accent", "second", "third", "warn")


@dataclass(frozen=True)
class Part:
    """A part of the split: `share` of all units by the definition, `seen` of those that came, of whom there are
    `units`. `variant` is empty for those that do not take part.
    """

    variant: str
    control: bool
    stopped: bool
    share: float
    seen: float | None
    units: int
    tone: Tone


@dataclass(frozen=True)
class ExperimentLine:
    """An experiment as it stands, without results."""

    id: str
    model: str
    revision: int
    name: str
    state: str
    tone: Tone
    is_live: bool
    is_final: bool
    coverage: float
    parts: Sequence[Part]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, experiment: Experiment, results: Json | None = None) -> "ExperimentLine":
        return cls(
            id=experiment.id,
            model=experiment.model.name,
            revision=experiment.revision.number,
            name=experiment.name,
            state=experiment.state,
            tone=STATE_TONES[experiment.state],
            is_live=experiment.state in LIVE,
            is_final=experiment.state in experiments.FINAL,
            coverage=experiment.coverage,
            parts=_parts(experiment, results),
            created_at=experiment.created_at,
            started_at=experiment.started_at,
            ended_at=experiment.ended_at,
        )

    @property
    def word(self) -> str:
        return self.state.replace("_", " ")

    @property
    def control(self) -> Part:
        return next(part for part in self.parts if part.control)

    @property
    def challengers(self) -> list[Part]:
        return [part for part in self.parts if part.variant and not part.control]


def _parts(experiment: Experiment, results: Json | None) -> list[Part]:
    split = split_of(experiment)
    units = {arm["variant"]: arm["units"] for arm in results["arms"]} if results else {}
    everybody = sum(units.values())
    # The control in grey, so that what is tried stands out.
    tones = {split.control.variant: _ARM_TONES[0]}
    others = [arm.variant for arm in split.arms if not arm.control]
    tones |= {variant: _ARM_TONES[1 + index % (len(_ARM_TONES) - 1)] for index, variant in enumerate(others)}
    return [
        Part(
            variant=arm.variant,
            control=arm.control,
            stopped=arm.stopped,
            share=split.shares[arm.variant],
            seen=units.get(arm.variant, 0) / everybody if everybody else None,
            units=units.get(arm.variant, 0),
            tone=tones[arm.variant],
        )
        for arm in split.arms
    ]


#: A difference is drawn on a line of so many units, its middle being no difference, and the margin where `_MARGIN` is.
WIDTH, _MIDDLE, _MARGIN = 300.0, 120.0, 75.0
_EDGE = 8.0


@dataclass(frozen=True)
class Whisker:
    """A difference of an arm to the control, with its interval, as it is drawn and said.

    `low`, `at`, `high` and `margin` are places along the line, to the right being worse; those beyond it are at its
    edge, and `goes_on` says on which sides. `at` is None where nothing is known.
    """

    arm: str
    title: str
    said: str
    limit: str
    result: str
    tone: Tone
    low: float
    at: float | None
    high: float
    goes_on: tuple[bool, bool]
    margin: float | None


_RESULTS: dict[str, tuple[str, Tone]] = {
    "holds": ("holds", "good"),
    "broken": ("broken", "bad"),
    "undecided": ("open", "plain"),
}


def whiskers(experiment: Experiment, results: Json) -> list[Whisker]:
    """Of each arm but the control: its guardrails first, then what else differs, or may."""
    guardrails = {each.metric: each for each in guardrails_of(experiment)}
    rows: list[Whisker] = []
    for arm in results["arms"]:
        found = arm["verdict"]
        if found is None:
            continue
        rows += [_guarded(arm["variant"], guardrails[each["metric"]], each) for each in found["guardrails"]]
        rows += _unguarded(arm["variant"], found, guardrails)
    return rows


def _guarded(arm: str, guardrail: Guardrail, judged: Json) -> Whisker:
    word, tone = _RESULTS[judged["result"]]
    write = _writer(guardrail)
    worst = guardrail.limit if guardrail.metric == "disagreement" else guardrail.worse * guardrail.limit
    return _whisker(
        arm,
        guardrail.title,
        judged["interval"],
        per=guardrail.limit,
        worse=guardrail.worse,
        said=_said(judged["interval"], write),
        limit=write(worst),
        result=word,
        tone=tone,
    )


def _unguarded(arm: str, found: Json, guardrails: Mapping[str, Guardrail]) -> list[Whisker]:
    rows = []
    if found["speedup"]["low"] is not None:
        # How much longer it takes, so that the worse is to the right as everywhere.
        fast = found["speedup"]
        longer = {"low": 1 / fast["high"] - 1, "estimate": 1 / fast["estimate"] - 1, "high": 1 / fast["low"] - 1}
        said = f"{_times(fast['estimate'])} as fast ({_times(fast['low'])} to {_times(fast['high'])})"
        title = "time at p50, in pairs" if found["speedup_is_paired"] else "time at p50"
        rows.append(_open(arm, title, longer, 1, said))
    if "error_rate" not in guardrails and found["error_rate"]["low"] is not None:
        rows.append(_open(arm, "errors", found["error_rate"], 1, _said(found["error_rate"], _points)))
    for name, change in found["outcomes"].items():
        if f"outcome:{name}" not in guardrails and change["low"] is not None:
            rows.append(_open(arm, name, change, -1, _said(change, _plain)))
    return rows


def _open(arm: str, title: str, interval: Json, worse: int, said: str) -> Whisker:
    """Of what has no margin: drawn so that all of it can be seen."""
    bounds = [abs(interval[name]) for name in ("low", "high") if interval[name] is not None]
    better = interval["high"] is not None and worse * interval["high" if worse > 0 else "low"] < 0
    bad = interval["low"] is not None and worse * interval["low" if worse > 0 else "high"] > 0
    tone: Tone = "good" if better else "bad" if bad else "plain"
    word = "better" if better else "worse" if bad else ""
    per = max(bounds, default=0.0) / 1.4 or 1.0
    return _whisker(arm, title, interval, per=per, worse=worse, said=said, limit="", result=word, tone=tone)


def _whisker(
    arm: str, title: str, interval: Json, *, per: float, worse: int, said: str, limit: str, result: str, tone: Tone
) -> Whisker:
    ends = [interval[name] for name in ("low", "high")]
    low, high = ends if worse > 0 else ends[::-1]
    places = [None if end is None else _MIDDLE + _MARGIN * worse * end / per for end in (low, high)]
    left, right = _EDGE, WIDTH - _EDGE
    start, end = (left if places[0] is None else places[0]), (right if places[1] is None else places[1])
    at = None if interval["estimate"] is None else _MIDDLE + _MARGIN * worse * interval["estimate"] / per
    known = not (interval["low"] is None and interval["high"] is None)
    return Whisker(
        arm=arm,
        title=title,
        said=said,
        limit=limit,
        result=result,
        tone=tone,
        low=_within(start),
        at=_within(at) if at is not None and known else None,
        high=_within(end),
        goes_on=(places[0] is None or start < left, places[1] is None or end > right),
        margin=_MIDDLE + _MARGIN if limit else None,
    )


def _within(place: float) -> float:
    return round(min(max(place, _EDGE), WIDTH - _EDGE), 1)


def _writer(guardrail: Guardrail) -> Any:
    if guardrail.quantile is not None:
        return _percent
    if guardrail.metric == "error_rate":
        return _points
    return _share if guardrail.metric == "disagreement" else _plain


def _said(interval: Json, write: Any) -> str:
    if interval["low"] is None and interval["high"] is None:
        return "nothing known yet"
    low, high = ("–" if interval[name] is None else write(interval[name]) for name in ("low", "high"))
    if interval["estimate"] is None:
        return f"{low} to {high}"
    return f"{write(interval['estimate'])} ({low} to {high})"


def _signed(value: float) -> str:
    """With a true minus, and 0 without a sign."""
    return f"{value:+.3g}".replace("-", "\u2212") if value else "0"


def _points(value: float) -> str:
    return f"{_signed(100 * value)} pts"


def _percent(value: float) -> str:
    return f"{_signed(100 * value)}%"


def _share(value: float) -> str:
    return f"{100 * value:.3g}%"


def _plain(value: float) -> str:
    return _signed(value)


def _times(value: float) -> str:
    return f"{value:.2f}×"


@dataclass(frozen=True)
class Happening:
    """An event of the timeline: what, why, and by whom."""

    id: int
    at: datetime
    what: str
    why: str
    tone: Tone

    @classmethod
    def of(cls, event: ExperimentEvent) -> "Happening":
        detail = event.detail
        by = {"request": "", "guardrail": "by a guardrail", "ramp": "by the ramp"}.get(detail.get("by", ""), "")
        what = " ".join(part for part in (_what(event.kind, detail), by) if part)
        return cls(event.id, event.at, what, str(detail.get("reason") or ""), _EVENT_TONES.get(event.kind, "plain"))


_EVENT_TONES: dict[str, Tone] = {"started": "good", "resumed": "good", "rolled_back": "bad", "promoted": "accent"}


def _what(kind: str, detail: Json) -> str:
    changes = []
    if "coverage" in detail:
        change = detail["coverage"]
        changes.append(f"coverage from {formats.share(change['from'], 0)} to {formats.share(change['to'], 0)}")
    if "weights" in detail:
        before, after = detail["weights"]["from"], detail["weights"]["to"]
        changes += [f"weight of {arm} from {before[arm]:g} to {weight:g}" for arm, weight in after.items()]
    if kind == "rolled_back":
        return f"{', '.join(detail.get('variants', []))} rolled back"
    if kind == "promoted":
        return f"{detail.get('variant', '')} promoted to be the default"
    word = {"created": "Set up", "ramped": "Ramped up:", "changed": "Changed:"}.get(kind, kind.capitalize())
    return " ".join([word, ", ".join(changes)]) if changes else word
