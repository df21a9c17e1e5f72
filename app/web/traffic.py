"""How busy variants were lately, told from looks at what was counted."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from app.serving.statistics import Key
from app.web.charts import Axis, Lines, Series, Tone

#: A rate is of so many seconds, or of those since the look before where that is longer ago.
_OVER_S = 10.0
#: How far back the chart goes.
_KEPT_S = 180.0
#: Looks that several who watch take at about the same time count as one.
_APART_S = 1.0
#: As many lines as there are tones to tell them by; the others are summed up in one.
_TONES: tuple[Tone, ...] = ("accent", "second", "third")


@dataclass(frozen=True)
class _Look:
    at_s: float
    requests: Mapping[Key, int]


class Traffic:
    """Looks at counts that grow, kept while somebody watches. May be called from many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: deque[_Look] = deque()

    def look(self, requests: Mapping[Key, int], at_s: float) -> None:
        """Note how many requests each variant has had in all, at a time of a clock that never goes back."""
        with self._lock:
            if self._looks and at_s - self._looks[-1].at_s < _APART_S:
                return
            self._looks.append(_Look(at_s, dict(requests)))
            while at_s - self._looks[0].at_s > _KEPT_S:
                self._looks.popleft()

    def rates(self) -> dict[Key, float]:
        """Requests a second of each variant, lately; empty until there were two looks."""
        with self._lock:
            looks = list(self._looks)
        if len(looks) < 2:
            return {}
        last = looks[-1]
        since = next((look for look in reversed(looks[:-1]) if last.at_s - look.at_s >= _OVER_S), looks[0])
        return _rates(since, last)

    def chart(self, names: Mapping[Key, str]) -> Lines | None:
        """Requests a second since somebody watches, of the busiest variants; None until there is a line to draw."""
        with self._lock:
            looks = list(self._looks)
        steps = [_rates(before, after) for before, after in pairwise(looks)]
        totals = {key: sum(step.get(key, 0.0) for step in steps) for key in names}
        busy = sorted((key for key, total in totals.items() if total > 0), key=lambda key: (-totals[key], key))
        if len(steps) < 2 or not busy:
            return None
        alone = busy[: len(_TONES)]
        series = [
            Series(label=names[key], values=[round(step.get(key, 0.0), 2) for step in steps], tone=tone)
            for key, tone in zip(alone, _TONES, strict=False)
        ]
        rest = busy[len(_TONES) :]
        if rest:
            values: list[float | None] = [round(sum(step.get(key, 0.0) for key in rest), 2) for step in steps]
            series.append(Series(label="others", values=values, tone="plain"))
        return Lines(
            x=Axis(label="seconds ago"),
            y=Axis(label="requests a second"),
            at=[round(look.at_s - looks[-1].at_s, 1) for look in looks[1:]],
            series=series,
        )


def _rates(since: _Look, last: _Look) -> dict[Key, float]:
    seconds = last.at_s - since.at_s
    # What a process counted is gone when it ends, so sums may fall.
    return {key: max(0, count - since.requests.get(key, 0)) / seconds for key, count in last.requests.items()}
