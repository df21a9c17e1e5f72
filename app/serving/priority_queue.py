"""The line before a variant: by priority, then by arrival; those that can be computed together leave together."""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from app.serving.batches import Signature

#: What a request of priority 0 counts as: there is room above it and below.
DEFAULT_PRIORITY = 5


class Waiting(Protocol):
    """One request in line. `priority`: 1 goes first; `number` grows with arrival; `signature` None: never joined."""

    priority: int
    number: int
    rows: int
    elements: int
    signature: Signature | None
    entered_ns: int
    deadline_ns: int | None


W = TypeVar("W", bound=Waiting)


class PriorityQueue(Generic[W]):
    """Not for several threads: whoever owns it holds a lock."""

    def __init__(self) -> None:
        # The order of arrival within each priority and signature.
        self._queues: dict[tuple[int, Signature | None], deque[W]] = {}
        self.rows = 0
        self.elements = 0
        self._deadlines = 0
        self._elements_of: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[W]:
        for queue in self._queues.values():
            yield from queue

    def add(self, waiting: W) -> None:
        self._queues.setdefault((waiting.priority, waiting.signature), deque()).append(waiting)
        self.rows += waiting.rows
        self.elements += waiting.elements
        self._elements_of[waiting.priority] += waiting.elements
        self._deadlines += waiting.deadline_ns is not None

    def remove(self, waiting: W) -> bool:
        """Whether it was in line, and now is not."""
        key = (waiting.priority, waiting.signature)
        try:
            self._queues.get(key, deque()).remove(waiting)
        except ValueError:
            return False
        self._left(key, waiting)
        return True

    def oldest_ns(self) -> int:
        """When the first of those who wait came; somebody must."""
        return min(queue[0].entered_ns for queue in self._queues.values())

    def earliest_deadline_ns(self) -> int | None:
        if not self._deadlines:
            return None
        return min(waiting.deadline_ns for waiting in self if waiting.deadline_ns is not None)

    def elements_before(self, priority: int) -> int:
        """The size of all that would be computed before a newcomer of `priority`."""
        return sum(elements for level, elements in self._elements_of.items() if level <= priority)

    def take(self, max_rows: int) -> list[W]:
        """Who is next, and those who can be joined with it, in their order, up to `max_rows` together.

        The first is taken whatever its size; none overtakes another of its priority and signature. Empty when nobody
        waits.
        """
        if not self._queues:
            return []
        first = min(self._queues, key=lambda key: (key[0], self._queues[key][0].number))
        signature = first[1]
        taken = [self._pop(first)]
        if signature is None:
            return taken
        room = max_rows - taken[0].rows
        for key in sorted((key for key in self._queues if key[1] == signature), key=lambda key: key[0]):
            while key in self._queues and self._queues[key][0].rows <= room:
                taken.append(self._pop(key))
                room -= taken[-1].rows
            if key in self._queues:
                break
        return taken

    def _pop(self, key: tuple[int, Signature | None]) -> W:
        waiting = self._queues[key].popleft()
        self._left(key, waiting)
        return waiting

    def _left(self, key: tuple[int, Signature | None], waiting: W) -> None:
        self.rows -= waiting.rows
        self.elements -= waiting.elements
        self._elements_of[waiting.priority] -= waiting.elements
        if not self._elements_of[waiting.priority]:
            del self._elements_of[waiting.priority]
        self._deadlines -= waiting.deadline_ns is not None
        if not self._queues[key]:
            del self._queues[key]
