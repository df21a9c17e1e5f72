"""The gateway: wiring and lifespan, nothing else."""

import logging
import tempfile
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import cache, partial
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from app import __version__, custom_operators, engines, web
from app.access import exposure
from app.access.exposure import Exposure
from app.access.gate import Gate
from app.access.keyring import Keyring
from app.api import (
    audit,
    datasets,
    experiments,
    jobs,
    keys,
    models,
    openapi,
    operations,
    outcomes,
    points,
    problems,
    uploads,
    variants,
)
from app.api.document import DocumentedApi
from app.api.services import Services
from app.api.strict_json import strict_json
from app.blobs import open_store
from app.confinement import confinement
from app.engines.cpu import usable_cores
from app.errors import UnknownEngine
from app.experiments.overseer import Overseer
from app.experiments.recorder import Recorder
from app.experiments.retention import Retention
from app.experiments.shadow import Shadows
from app.front import Front
from app.inference import documentation, metrics, rest
from app.inference.backend import Backend
from app.inference.core import InferenceCore
from app.inference.endpoints import Endpoints, Limits
from app.inference.reconciler import Reconciler
from app.inference.repository import Repository
from app.inference.served_variant import resolve
from app.inference.variant_cache import VariantCache
from app.inference.variant_statistics import VariantStatistics
from app.isolation.engine import IsolatedEngine
from app.isolation.engine import Limits as RunnerLimits
from app.queue import Outbox
from app.registry import Database, migrations
from app.scratch import remove_leftovers
from app.serving.batch_queue import BatchLimits
from app.serving.batcher import Batcher
from app.serving.draining import Draining
from app.serving.figures import gathered, of_this_process
from app.serving.memory import machine_bytes
from app.serving.pool import Pool
from app.serving.siblings import Siblings
from app.serving.statistics import Statistics
from app.serving.threads import lower_priority
from app.settings import Settings
from app.tracing import Tracing
from app.web import login, pages, swagger
from app.web.answers import Assets
from app.web.report import render_report
from app.web.traffic import Traffic

_log = logging.getLogger(__name__)

#: Loads and unloads at once; they wait for memory and disks, and must not take threads from inference.
_CONTROL_THREADS = 4


def create_app(settings: Settings) -> ASGIApp:
    """The gateway as an ASGI application; its registry must have been migrated."""
    custom_operators.allow(custom_operators.listed(settings.custom_operators))
    # An engine that is missing is better found out now than at the first upload.
    engines.get(settings.engine)
    settings.make_folders()
    # Uploads are spooled where they are kept: on a disk known to be large, and under `home` like all else.
    tempfile.tempdir = str(settings.scratch_folder)
    database = Database(settings.registry_url)
    blobs = open_store(settings)
    tracing = Tracing() if settings.tracing else None
    model_memory = (settings.model_memory or machine_bytes() // 2) // settings.gateway_workers
    isolated = _isolated(settings, model_memory)
    pool = Pool(
        blobs,
        settings.scratch_folder,
        settings.mapped_folder,
        intra_op_threads=settings.intra_op_threads,
        memory_bytes=model_memory,
        engine=partial(_isolated_engine, isolated) if settings.isolate else engines.get,
    )
    statistics = Statistics()
    threads = settings.inference_threads or max(1, usable_cores() // settings.gateway_workers)
    batcher = Batcher(pool, statistics, threads=threads, limits=_batch_limits(settings))
    siblings = Siblings(settings.siblings_folder, lambda: of_this_process(statistics, pool).to_json())
    variant_statistics = VariantStatistics(database, partial(gathered, statistics, pool, siblings))
    reconciler = Reconciler(
        database, pool, statistics, [name.strip() for name in settings.pinned.split(",") if name.strip()]
    )
    outbox = Outbox(settings, database)
    draining = Draining(settings.drain_seconds)
    keyring = Keyring(database, audit_days=settings.audit_days)
    gate = Gate(keyring, database, Exposure.of(settings), open_metrics=settings.open_metrics)
    variant_cache = VariantCache(partial(resolve, database), database)
    recorder = Recorder(database)
    shadows = Shadows(pool, recorder)
    overseer = Overseer(database)
    retention = Retention(database, outcome_hours=settings.outcome_hours, outcome_days=settings.outcome_days)
    core = InferenceCore(
        variant_cache,
        batcher,
        recorder,
        shadows,
        threads=threads,
        on_response=tracing.answered if tracing is not None else None,
    )
    backend = Backend(
        core=core,
        variants=variant_cache,
        statistics=variant_statistics,
        repository=Repository(database, pool),
        database=database,
        draining=draining,
        control=ThreadPoolExecutor(_CONTROL_THREADS, "octet-control", lower_priority),
        server_name=settings.server_name,
        log_level=settings.log_level,
        gate=gate,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        migrations.check_current(database)
        found = confinement()
        _log.log(logging.INFO if found.is_complete else logging.WARNING, "%s", found)
        if (notice := exposure.check(settings, database)) is not None:
            _log.warning(notice)
        keyring.start()
        remove_leftovers(settings.scratch_folder)
        pool.tidy()
        await siblings.start()
        outbox.start()
        variant_cache.start()
        reconciler.start()
        recorder.start()
        shadows.start()
        overseer.start()
        retention.start()
        async with _grpc(settings, backend):
            draining.watch()
            yield
        retention.stop()
        overseer.stop()
        shadows.stop()
        recorder.stop()
        reconciler.stop()
        variant_cache.stop()
        await siblings.stop()
        backend.control.shutdown(wait=False, cancel_futures=True)
        batcher.close()
        pool.close()
        for engine in isolated.values():
            engine.close()
        outbox.stop()
        keyring.stop()
        database.close()
        if tracing is not None:
            tracing.close()

    app = DocumentedApi(
        completions=[documentation.complete, openapi.complete],
        title="Octet",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    counted = variant_statistics.all
    told = metrics.registry(counted, alone=settings.siblings_folder is None)
    app.state.services = Services(settings, database, blobs, pool, outbox, counted, told, render_report, keyring)
    app.state.traffic = Traffic()
    app.add_middleware(uploads.BodyLimit, max_bytes=settings.max_upload_bytes)
    problems.install(app)
    inference = Endpoints(backend, Limits(settings.max_inference_bytes, settings.inference_body_seconds))
    _mount(app, inference)
    front: ASGIApp = Front(
        app, inference.infer, problems.answer_to, draining, gate=gate, log_requests=settings.log_requests
    )
    if settings.origins:
        front = _with_cors(front, settings)
    return tracing.around(front) if tracing is not None else front


def _isolated(settings: Settings, model_memory: int) -> dict[str, IsolatedEngine]:
    """Engines whose models live in processes of their own, where that is wanted."""
    if not settings.isolate:
        return {}
    limits = RunnerLimits(model_memory, settings.run_seconds)
    return {name: IsolatedEngine(name, limits) for name in engines.names()}


def _isolated_engine(isolated: Mapping[str, IsolatedEngine], name: str) -> IsolatedEngine:
    if name not in isolated:
        raise UnknownEngine(f"there is no engine '{name}'; there is {', '.join(isolated)}")
    return isolated[name]


def _with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Pages of the listed origins may call, with a key of their own: cookies stay with the dashboard."""
    return CORSMiddleware(
        app,
        allow_origins=sorted(settings.origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["*"],
        expose_headers=["*"],
    )


def _grpc(settings: Settings, backend: Backend) -> AbstractAsyncContextManager[None]:
    """The port for gRPC, while the context lasts; without one, nothing of gRPC is imported."""
    if not settings.grpc_port:
        return nullcontext()
    from app.inference.grpc.server import listening
    from app.inference.grpc.service import Service

    return listening(
        Service(backend),
        host=settings.host,
        port=settings.grpc_port,
        max_bytes=settings.max_inference_bytes,
        shares_port=settings.gateway_workers > 1,
        over=backend.draining.over,
    )


def _batch_limits(settings: Settings) -> BatchLimits:
    return BatchLimits(
        batch_rows=settings.max_batch_rows,
        delay_ns=settings.max_batch_delay_us * 1000,
        waiting_rows=settings.max_waiting_rows,
    )


def _mount(app: FastAPI, inference: Endpoints) -> None:
    # Routes are tried in order, and inference is what must be quick.
    app.include_router(rest.router(inference))
    app.router.routes.extend(_stateless_routes())
    app.mount("/static", Assets(directory=Path(web.__file__).parent / "static"), name="static")


@cache
def _stateless_routes() -> list[BaseRoute]:
    """Build the routes that hold no state of one gateway, which takes 40 ms: once, for all gateways of a process."""
    routes = APIRouter()
    management = APIRouter(prefix="/api/v1", dependencies=[Depends(strict_json)])
    for nouns in (models, variants, points, datasets, jobs, experiments, outcomes, keys, audit):
        management.include_router(nouns.routes)
    for router in (management, operations.routes, pages.routes, swagger.routes, login.routes):
        routes.include_router(router)
    return routes.routes
