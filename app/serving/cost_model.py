"""How long a variant will take, judged by how long it took lately.

So that what would come too late is not computed, and that no more is joined than makes rows cheaper: a small
perceptron computes 32 rows as fast as one, a transformer 8 in the time of 3, and a convolution gains next to nothing,
where a large batch would only have its first row wait for its last.
"""

from collections import deque

#: What was measured longer ago says nothing: else a variant that was slow once would be refused work for ever.
RECENT_NS = 5_000_000_000

_RUNS = 5

# What a run costs besides the computing: its turn, its lease, and its part in the statistics.
_TURN_NS = 30_000
# Twice the rows are worth it where each then takes less than this part of its time.
_PAYS = 0.9


class CostModel:
    """Recent runs of one variant, by the size of what they were fed, in elements. Its owner guards it with a lock.

    Sizes are told apart by powers of two: a batch of many short sequences and one of few long ones cost alike.
    The median of the last runs counts, so that one disturbed run has no say.
    """

    def __init__(self) -> None:
        self._runs: dict[int, deque[float]] = {}
        self._last_ns: dict[int, int] = {}
        # Made when asked for, since each run makes the one before it old.
        self._medians: dict[int, float] = {}

    def ran(self, size: int, took_ns: int, now_ns: int) -> None:
        """A run on `size` elements took `took_ns`, and ended at `now_ns`."""
        power = size.bit_length()
        runs = self._runs.get(power)
        if runs is None:
            runs = self._runs[power] = deque(maxlen=_RUNS)
        elif now_ns - self._last_ns[power] > RECENT_NS:
            runs.clear()
        runs.append(took_ns / max(size, 1))
        self._medians.pop(power, None)
        self._last_ns[power] = now_ns

    def expected_ns(self, size: int, now_ns: int) -> int:
        """What a run on `size` elements takes, 0 where nothing recent tells.

        In proportion to runs of the nearest size, the larger in doubt; it errs towards too short, as what is fixed
        in the cost of a run is taken to shrink with it.
        """
        power = size.bit_length()
        last = self._last_ns.get(power)
        if last is not None and now_ns - last <= RECENT_NS:
            return int(self._median(power) * size)
        fresh = [known for known, last in self._last_ns.items() if now_ns - last <= RECENT_NS]
        if not fresh or not size:
            return 0
        nearest = min(fresh, key=lambda known: (abs(known - power), -known))
        return int(self._median(nearest) * size)

    def paying_rows(self, rows: int, row_size: int, now_ns: int) -> int:
        """How many of `rows`, of `row_size` elements each, to compute at once: halved for as long as it costs no more.

        What was not tried lately is tried.
        """
        while rows > 1:
            half = rows // 2
            whole_ns, half_ns = (self._row_ns(count, row_size, now_ns) for count in (rows, half))
            if whole_ns is None:
                return rows
            if half_ns is None:
                return half
            if whole_ns <= _PAYS * half_ns:
                return rows
            rows = half
        return rows

    def _row_ns(self, rows: int, row_size: int, now_ns: int) -> float | None:
        """What one of so many rows takes; None where no run of about that size is recent."""
        power = (rows * row_size).bit_length()
        last = self._last_ns.get(power)
        if last is None or now_ns - last > RECENT_NS:
            return None
        return _TURN_NS / rows + self._median(power) * row_size

    def _median(self, power: int) -> float:
        median = self._medians.get(power)
        if median is None:
            runs = sorted(self._runs[power])
            median = self._medians[power] = runs[(len(runs) - 1) // 2]
        return median
