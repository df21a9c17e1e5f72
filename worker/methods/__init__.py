"""How each method of `app.contracts.methods` is done: one file each, named as the method."""

from collections.abc import Callable
from importlib import import_module

from worker.methods.method import CalibrationSamples, Made, Progress, Stage, Task

__all__ = ["CalibrationSamples", "Made", "Progress", "Stage", "Task", "find"]


def find(name: str) -> Callable[[Task], Made]:
    """Return the function `make` of module `worker.methods.NAME`.

    The module is imported now, so that a job imports what its own method needs and no more.
    """
    make: Callable[[Task], Made] = import_module(f"{__name__}.{name}").make
    return make
