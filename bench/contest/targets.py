"""What is aimed at, and whether it was met."""

from collections.abc import Iterator
from dataclasses import dataclass

from contest.results import Results, Spread

OCTET, TRITON = "Octet", "Triton, Python backend"

ABOVE_FLOOR_MS = 0.5
SHARE_OF_FLOOR = 0.9
#: Below this, what a server adds cannot but be more than the rest of the share.
COMPUTES_FROM_MS = 2.0
#: The floor does the same in each round: where it differs by more than this, somebody else used the machine.
_STEADY = 1.25

LEAD_OF_PYTHON, LEAD_OF_TRITON = 3.0, 1.5


@dataclass(frozen=True)
class Target:
    what: str
    figure: str
    met: bool

    def __str__(self) -> str:
        return f"- {'met' if self.met else 'MISSED'}: {self.what}: {self.figure}"


def targets(results: Results, peers: list[str]) -> Iterator[Target]:
    """`peers`: those in Python, by their rows' titles."""
    for case in results.distinct(lambda m: m.case):
        if results.of(case, OCTET, 1):
            above = results.spread(case, OCTET, 1, lambda m: m.above_floor_ms)
            what = f"{case}, concurrency 1: p50 at most {ABOVE_FLOOR_MS} ms above the floor"
            yield Target(what, f"{above.shown('.2f')} ms", above.median <= ABOVE_FLOOR_MS)
        if results.of(case, OCTET, 8):
            floor = results.spread(case, OCTET, 8, lambda m: m.floor_p50_ms).median
            share = results.spread(case, OCTET, 8, lambda m: m.of_floor)
            if floor >= COMPUTES_FROM_MS:
                what = f"{case}, concurrency 8: at least {SHARE_OF_FLOOR} of the floor's throughput"
                yield Target(what, share.shown(".2f"), share.median >= SHARE_OF_FLOOR)
        if case == results.first_of("mlp"):
            for peer in [*peers, TRITON]:
                yield from _leads(results, case, peer, LEAD_OF_TRITON if peer == TRITON else LEAD_OF_PYTHON)


def _leads(results: Results, case: str, peer: str, wanted: float) -> Iterator[Target]:
    for concurrency in (8, 32):
        lead = results.lead(case, peer, concurrency, OCTET)
        if lead is not None:
            what = f"{case}, concurrency {concurrency}: at least {wanted} times the throughput of {peer}"
            yield Target(what, f"{lead.shown('.1f')} times", lead.median >= wanted)


def errors(results: Results) -> Iterator[str]:
    """A line for each contender that failed a request, with the first that it failed."""
    for contender in results.distinct(lambda m: m.contender):
        found = [(each, error) for each in results.measurements if each.contender == contender for error in each.errors]
        if found:
            each, error = found[0]
            yield f"- {contender}: {len(found)} errors, first in {each.case}, concurrency {each.concurrency}: {error}"


def disturbances(results: Results) -> Iterator[str]:
    """A line for each case whose floor was not the same throughout: its figures are to be taken again."""
    for case in results.distinct(lambda m: m.case):
        rate = Spread.of(each.floor_per_second for each in results.measurements if each.case == case)
        if rate.high > _STEADY * rate.low:
            yield f"- disturbed: {case}: the floor itself did {rate.shown('.0f')} req/s; is the machine busy otherwise?"
