"""Looks at all that the service stands on, and says what is wrong and what to do about it."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

from app import __version__, custom_operators, engines
from app.blobs import open_store
from app.confinement import confinement
from app.contracts.methods import METHODS
from app.engines.cpu import this_cpu
from app.errors import Invalid, OctetError, UnknownEngine
from app.queue import check_broker
from app.registry import Database, DatabaseError, Session, jobs, migrations, workers
from app.registry.references import referenced
from app.registry.tables import now
from app.scratch import failed_job_folders
from app.settings import Settings

_FULL_BYTES, _LOW_BYTES = 100 * 1024**2, 2 * 1024**3
_FEW_FILES = 1024
_CLOCK_SECONDS = 2.0
_WAITING_SECONDS = 60.0


class State(StrEnum):
    """How one thing is."""

    ok = "ok"
    warning = "warning"
    problem = "problem"


@dataclass(frozen=True)
class Finding:
    """`told`: what was found. `advice`: what to do, unless all is well."""

    what: str
    state: State
    told: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """One finding after the other, as they are made; nothing is changed. Never raises for what it is to look at."""
    yield _versions()
    yield _cpu()
    yield _confinement()
    yield _engine(settings)
    yield from _custom_operators(settings)
    yield _files()
    yield from _disk(settings)
    yield from _failed_jobs(settings)
    yield _broker(settings)
    database = Database(settings.registry_url)
    try:
        reached = _registry(database)
        yield reached
        if reached.state is State.ok:
            with database.reading() as session:
                yield from _contents(settings, database, session)
    finally:
        database.close()


def _versions() -> Finding:
    told = [f"octet {__version__}", f"python {python_version()}"]
    told += [f"{name} {version(name)}" for name in ("onnxruntime", "onnx", "numpy")]
    try:
        told.append(f"torch {version('torch')}")
    except PackageNotFoundError:
        training = ", ".join(row.name for row in METHODS.values() if row.trains)
        told.append(f"no torch, which the method {training} takes (the extra `qat`)")
    return Finding("versions", State.ok, ", ".join(told))


def _cpu() -> Finding:
    cpu = this_cpu()
    told = f"{cpu.model}, {cpu.cores} cores"
    if cpu.vnni:
        return Finding("cpu", State.ok, f"{told}, VNNI")
    return Finding(
        "cpu",
        State.warning,
        f"{told}, no VNNI: sums of 8-bit products saturate at 16 bits",
        "INT8 variants are made to allow for that, and gain less; quantize on a machine like the one that serves",
    )


def _confinement() -> Finding:
    found = confinement()
    if found.is_complete:
        return Finding("confinement", State.ok, str(found))
    return Finding(
        "confinement",
        State.warning,
        str(found),
        "untrusted models run with less around them: take Linux 6.12 or later, and a container profile that allows"
        " landlock and seccomp",
    )


def _failed_jobs(settings: Settings) -> Iterator[Finding]:
    """None where no folder of a failed job is kept."""
    folders = failed_job_folders(settings.home)
    if folders:
        size = sum(_size(file) for folder in folders for file in folder.glob("*"))
        found = f"{len(folders)} of at most {settings.keep_failed_jobs} folders kept in {folders[0].parent.absolute()}"
        yield Finding("failed jobs", State.ok, f"{found}, {size / 1024**2:,.1f} MiB with models and datasets")


def _size(file: Path) -> int:
    """The size of a file that may go meanwhile."""
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def _engine(settings: Settings) -> Finding:
    try:
        engine = engines.get(settings.engine)
    except UnknownEngine as error:
        return Finding("engine", State.problem, error.detail, "the gateway does not start: correct OCTET_ENGINE")
    return Finding("engine", State.ok, f"{engine.name} {engine.version}")


def _custom_operators(settings: Settings) -> Iterator[Finding]:
    """None where none are allowed."""
    try:
        libraries = custom_operators.listed(settings.custom_operators)
    except Invalid as error:
        yield Finding("custom operators", State.problem, error.detail, "gateway and worker do not start: correct it")
        return
    if libraries:
        told = ", ".join(f"{domain} by {path}" for domain, path in libraries.items())
        yield Finding("custom operators", State.ok, told)


def _files() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < _FEW_FILES:
        return Finding("open files", State.warning, f"{limit} at most", "raise it: `ulimit -n 20000`")
    return Finding("open files", State.ok, f"{limit} at most")


def _disk(settings: Settings) -> Iterator[Finding]:
    try:
        settings.make_folders()
        usage = shutil.disk_usage(settings.home)
    except OSError as error:
        yield Finding("disk", State.problem, f"{settings.home}: {error.strerror}", "set OCTET_HOME to another folder")
        return
    told = f"{settings.home.absolute()}: {usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f}"
    if not os.access(settings.home, os.W_OK):
        yield Finding("disk", State.problem, f"{told}, not writable", "let the service's user write there")
    elif usage.free < _LOW_BYTES:
        state = State.problem if usage.free < _FULL_BYTES else State.warning
        yield Finding("disk", state, told, "make room: `octet gc`, old variants, a larger disk")
    else:
        yield Finding("disk", State.ok, told)


def _broker(settings: Settings) -> Finding:
    try:
        check_broker(settings)
    except OctetError as error:
        return Finding(
            "broker",
            State.problem,
            error.detail,
            "start it, or set OCTET_BROKER_URL; jobs wait until then",
        )
    return Finding("broker", State.ok, "answers" if settings.broker_url else "folders under OCTET_HOME")


def _registry(database: Database) -> Finding:
    try:
        migrations.check_current(database)
    except OctetError as error:
        return Finding("registry", State.problem, error.detail)
    except DatabaseError as error:
        told = str(error.orig or error).strip().splitlines()[0]
        return Finding("registry", State.problem, f"does not answer: {told}", "start it, or set OCTET_DATABASE_URL")
    return Finding("registry", State.ok, f"{database.engine.dialect.name}, schema {migrations.schema(database)}")


def _contents(settings: Settings, database: Database, session: Session) -> Iterator[Finding]:
    yield _blobs(settings, session)
    yield _clock(database.clock())
    yield _workers(settings, session)
    yield _queue(session)


def _blobs(settings: Settings, session: Session) -> Finding:
    try:
        store = open_store(settings)
        there, named, trouble = set(store.digests()), referenced(session), store.diagnose(settings)
    except (OctetError, OSError) as error:
        return Finding("blobs", State.problem, f"the store does not answer: {error}", "correct OCTET_BLOBS")
    if missing := sorted(named - there):
        return Finding(
            "blobs",
            State.problem,
            f"{len(missing)} of {len(named)} that the registry names are missing: {', '.join(missing[:3])}…",
            "restore a backup, or delete the models, variants or datasets that need them",
        )
    if unnamed := there - named:
        return Finding("blobs", State.warning, f"{len(named)}, and {len(unnamed)} that nothing names", "run `octet gc`")
    if trouble is not None:
        return Finding("blobs", State.warning, f"{len(named)}; {trouble}", "choose another place with OCTET_BLOBS")
    return Finding("blobs", State.ok, f"{len(named)}")


def _clock(there: datetime) -> Finding:
    off_s = (now() - there).total_seconds()
    if abs(off_s) > _CLOCK_SECONDS:
        return Finding(
            "clock",
            State.warning,
            f"{off_s:+.0f} s off from the registry's",
            "ages, moments and ends of keys are told by it: have all machines keep the same time (NTP)",
        )
    return Finding("clock", State.ok, "agrees with the registry's")


def _workers(settings: Settings, session: Session) -> Finding:
    alive = workers.alive(session, within_seconds=3 * settings.sweep_seconds + 5)
    if not alive:
        return Finding("workers", State.warning, "none is alive, so that jobs wait", "start `octet worker`")
    slots, running = sum(worker.concurrency for worker in alive), sum(worker.running for worker in alive)
    return Finding("workers", State.ok, f"{len(alive)} alive, {running} of {slots} slots at work")


def _queue(session: Session) -> Finding:
    counts = jobs.counts(session)
    told = ", ".join(f"{counts.get(state, 0)} {state}" for state in jobs.LIVE)
    waited_s = jobs.longest_wait_s(session)
    if waited_s > _WAITING_SECONDS:
        return Finding(
            "jobs",
            State.warning,
            f"{told}; one has waited for {waited_s:.0f} s",
            "start more workers",
        )
    return Finding("jobs", State.ok, told)
