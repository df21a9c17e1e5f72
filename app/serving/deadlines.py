"""How long a variant will take, judged by how long it took lately: so that what would come too late is not computed."""

from collections import deque
from statistics import median_low

#: What was measured longer ago says nothing: else a variant that was slow once would be refused work for ever.
RECENT_NS = 5_000_000_000

_RUNS = 5


class Pace:
    """Recent runs of one variant, by the size of what they were fed, in elements. Its owner guards it with a lock.

    Sizes are told apart by powers of two: a batch of many short sequences and one of few long ones cost alike.
    The median of the last runs counts, so that one disturbed run has no say.
    """

    def __init__(self) -> None:
        self._runs: dict[int, deque[float]] = {}
        self._last_ns: dict[int, int] = {}

    def ran(self, size: int, took_ns: int, now_ns: int) -> None:
        """A run on `size` elements took `took_ns`, and ended at `now_ns`."""
        power = size.bit_length()
        runs = self._runs.get(power)
        if runs is None:
            runs = self._runs[power] = deque(maxlen=_RUNS)
        elif now_ns - self._last_ns[power] > RECENT_NS:
            runs.clear()
        runs.append(took_ns / max(size, 1))
        self._last_ns[power] = now_ns

    def expected_ns(self, size: int, now_ns: int) -> int:
        """What a run on `size` elements takes, 0 where nothing recent tells.

        In proportion to runs of the nearest size, the larger in doubt; it errs towards too short, as what is fixed
        in the cost of a run is taken to shrink with it.
        """
        power = size.bit_length()
        fresh = [known for known, last in self._last_ns.items() if now_ns - last <= RECENT_NS]
        if not fresh or not size:
            return 0
        nearest = min(fresh, key=lambda known: (abs(known - power), -known))
        return int(median_low(self._runs[nearest]) * size)
