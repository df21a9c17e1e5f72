"""Has a Python program see another time on the wall than the machine's; steady clocks are left alone.

Python imports this before anything else where its folder is on the path. `WALL_CLOCK` names a file that holds the
seconds to add, which may change at any time.
"""

import datetime
import os
import time
from pathlib import Path
from typing import Any

_file = Path(os.environ["WALL_CLOCK"])
_real_ns, _real = time.time_ns, datetime.datetime


def _time_ns() -> int:
    return _real_ns() + int(_file.read_text()) * 1_000_000_000


def _time() -> float:
    return _time_ns() / 1e9


class _AsReal(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real)


class _Datetime(_real, metaclass=_AsReal):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _real.fromtimestamp(_time(), tz)


time.time, time.time_ns = _time, _time_ns
datetime.datetime = _Datetime  # type: ignore[misc]
