"""Which models have crashed their processes lately, and for how long these are not started again."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from app.errors import Quarantined
from app.serving.loading import Artifact

#: So many crashes within so many seconds are no accident.
_CRASHES, _WITHIN_S = 3, 60.0
#: The first quarantine; each further one is twice as long, up to the last, until a model has run for as long in peace.
_FIRST_S, _LONGEST_S = 10.0, 600.0


@dataclass
class _Record:
    lately: deque[float] = field(default_factory=deque)
    until_s: float = 0.0
    sentence_s: float = 0.0


class Crashes:
    """A circuit breaker for each artifact. May be asked from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[Artifact, _Record] = {}
        self._counts: Counter[Artifact] = Counter()

    def note(self, artifact: Artifact) -> None:
        """Its process has ended by itself, or had to be ended."""
        now = self._clock()
        with self._lock:
            self._counts[artifact] += 1
            record = self._records.setdefault(artifact, _Record())
            if now - record.until_s > max(_WITHIN_S, record.sentence_s):
                record.sentence_s = 0.0
            record.lately.append(now)
            while now - record.lately[0] > _WITHIN_S:
                record.lately.popleft()
            # Who comes out of quarantine and crashes again goes back at once.
            if len(record.lately) >= _CRASHES or record.sentence_s:
                record.sentence_s = min(max(_FIRST_S, 2 * record.sentence_s), _LONGEST_S)
                record.until_s = now + record.sentence_s

    def refusal(self, artifact: Artifact) -> Quarantined | None:
        """The error of who asks for it now; None when it may be started."""
        if not self._records:
            return None
        with self._lock:
            record = self._records.get(artifact)
            left = 0.0 if record is None else record.until_s - self._clock()
            return Quarantined(self._counts[artifact], left) if left > 0 else None

    def counts(self) -> dict[Artifact, int]:
        """How often each has crashed so far, of those that have."""
        with self._lock:
            return dict(self._counts)
