"""`/system`: what is loaded, how busy it is, who works, and on what."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from app.caller import CALLER
from app.registry import jobs, workers
from app.serving.figures import Figures
from app.serving.pool import Artifact
from app.serving.statistics import SECONDS, Key, Spread, Tally
from app.web.answers import page, page_routes, provided, traffic
from app.web.jobs import JobLine
from app.web.machine import this_machine

routes = page_routes()

_JOBS_SHOWN = 10


@dataclass(frozen=True)
class ServedLine:
    """A variant that is in memory, or has answered. Times are means of a request, since the gateway was started.

    `within_ms` is what 95% of its runs took at most, as a bound that runs are counted by; None where none is known.
    """

    model: str
    variant: str
    version: int
    loaded_bytes: int | None
    requests: int
    errors: int
    per_second: float | None
    waiting_ms: float | None
    computing_ms: float | None
    within_ms: float | None

    @classmethod
    def of(cls, key: Key, label: str, loaded_bytes: int | None, tally: Tally, per_second: float | None) -> "ServedLine":
        model, version = key
        return cls(
            model=model,
            variant=label,
            version=version,
            loaded_bytes=loaded_bytes,
            requests=tally.success.count + tally.fail.count,
            errors=tally.fail.count,
            per_second=per_second,
            waiting_ms=_mean_ms(tally.queue.ns, tally.queue.count),
            computing_ms=_mean_ms(tally.requests.infer.ns, tally.requests.infer.count),
            within_ms=_within_ms(tally.infer_spread, 0.95),
        )


@routes.get("/system")
def show(request: Request) -> Response:
    services = provided(request)
    figures, counted = services.counted()
    # Keys name models, and see no others.
    known = {key: one for key, one in counted.items() if CALLER.get().may_use(key[0])}
    watched = traffic(request)
    watched.look(
        {key: tally.success.count + tally.fail.count for key, tally in figures.tallies.items()}, time.monotonic()
    )
    alive_s = 3 * services.settings.sweep_seconds + 5
    with services.database.reading() as session:
        counts = jobs.counts(session)
        running = [JobLine.of(job) for job in jobs.listed(session, state="running", limit=_JOBS_SHOWN)]
        queued = [JobLine.of(job) for job in jobs.listed(session, state="queued", limit=_JOBS_SHOWN)]
        alive = workers.alive(session, within_seconds=alive_s)
    return page(
        "pages/system.html",
        place="System",
        lines=_lines(figures, known, watched.rates()),
        chart=watched.chart({key: f"{key[0]} {label}" for key, (label, _) in known.items()}),
        figures=figures,
        loaded_bytes=sum(figures.loaded_bytes.values()),
        per_second=sum(watched.rates().values()) if watched.rates() else None,
        machine=this_machine(services.settings),
        workers=alive,
        running=running,
        queued=queued,
        counts=counts,
    )


def _lines(figures: Figures, known: Mapping[Key, tuple[str, Artifact]], rates: Mapping[Key, float]) -> list[ServedLine]:
    """Of each variant that is in memory or has answered: those in memory first, the busiest first of these."""
    lines = [
        ServedLine.of(
            key,
            label,
            figures.loaded_bytes.get(artifact),
            figures.tallies.get(key, Tally()),
            rates.get(key, 0.0) if rates else None,
        )
        for key, (label, artifact) in known.items()
        if artifact in figures.loaded_bytes or key in figures.tallies
    ]
    return sorted(lines, key=lambda line: (line.loaded_bytes is None, -line.requests, line.model, line.version))


def _mean_ms(ns: int, count: int) -> float | None:
    return ns / count / 1e6 if count else None


def _within_ms(spread: Spread, share: float) -> float | None:
    wanted, so_far = share * sum(spread.counts), 0
    if not wanted:
        return None
    for seconds, count in zip(SECONDS, spread.counts, strict=False):
        so_far += count
        if so_far >= wanted:
            return seconds * 1e3
    return None
