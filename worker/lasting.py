"""What stays as it is, seen by one observer's own clock."""

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Lasting(Generic[T]):
    """Tells what has been there, unchanged, for `seconds`.

    Only what this object saw counts, by a clock that never jumps, as the wall's and other machines' may. A pause
    between two looks counts for half of `seconds` at most: an observer that was frozen together with all that it
    watches gives that the time to be heard of.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._looked_at = clock()
        self._watched_seconds = 0.0
        self._since: dict[T, float] = {}

    def among(self, found: Iterable[T]) -> list[T]:
        """Those of `found`, in its order, that every look of the last `seconds` found."""
        at = self._clock()
        self._watched_seconds += min(at - self._looked_at, self._seconds / 2)
        self._looked_at = at
        self._since = {thing: self._since.get(thing, self._watched_seconds) for thing in found}
        return [thing for thing, since in self._since.items() if self._watched_seconds - since >= self._seconds]
