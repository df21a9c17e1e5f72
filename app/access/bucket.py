"""How many requests a key may make."""

import time
from collections.abc import Callable


class Bucket:
    """Holds up to `burst` tokens, and gets `rate` of them a second; a request takes one. For one thread."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> float:
        """0 where there was one to take; else the seconds until there will be."""
        at = self._clock()
        self._tokens = min(self._burst, self._tokens + (at - self._at) * self.rate)
        self._at = at
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate
