"""What an experiment costs a request: `python bench/experiments.py [--units 50000]`.

Assigning a unit, and counting what its arm did, as the gateway does it for each request; without the flush, which a
thread does twice a second. Medians of a microsecond clock over batches.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from app.engines.cpu import this_cpu
from app.experiments.assignment import Arm, Sample, Split
from app.experiments.live import Live, UnitSource
from app.experiments.recorder import Recorder
from app.registry import Database

_BATCH = 1000


def microseconds(call: Callable[[int], object], count: int) -> float:
    """The median over batches of one call."""
    taken = []
    for start in range(0, count, _BATCH):
        begun = time.perf_counter_ns()
        for number in range(start, start + _BATCH):
            call(number)
        taken.append((time.perf_counter_ns() - begun) / _BATCH / 1000)
    return statistics.median(taken)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--units", type=int, default=50_000)
    units = arguments.parse_args().units

    split = Split("a seed", (Arm("original", 50, control=True), Arm("int8", 50)))
    samples = (Sample("a seed", "mixed", 0.05),)
    live = Live("e" * 32, split, (UnitSource("header:X-Unit-Id"), UnitSource("param:unit_id")), False, samples)
    recorder = Recorder(Database.__new__(Database))
    names = [f"user-{number}" for number in range(units)]
    places = [split.place(name) for name in names]

    def headers(name: bytes) -> None:
        return None

    def assign(number: int) -> object:
        return live.assign(headers, {"unit_id": names[number]}, "r")

    def record(number: int) -> None:
        recorder.answered(live.id, live.arms, places[number], 1_000_000 + number, "0123456789abcdef")

    print(f"{this_cpu().model}, {units} units\n\n| step | µs a request |\n|---|---|")
    whole = 0.0
    for step, call in (
        ("find the unit, and assign it", assign),
        ("decide whether a shadow takes it", lambda number: samples[0].takes(names[number])),
        ("count it", record),
    ):
        took = microseconds(call, units)
        whole += took
        print(f"| {step} | {took:.2f} |")
    print(f"| together | {whole:.2f} |\n\n{'met' if whole <= 20 else 'MISSED'}: at most 20 µs a request")


if __name__ == "__main__":
    main()
