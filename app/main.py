"""The gateway: wiring and lifespan, nothing else."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.staticfiles import StaticFiles

from app import __version__, web
from app.api import datasets, jobs, models, operations, points, problems, uploads, variants
from app.api.services import Services
from app.blobs import LocalBlobStore
from app.engines.cpu import usable_cores
from app.inference import rest
from app.inference.core import Core
from app.inference.dataplane import DataPlane
from app.inference.endpoints import Endpoints, Limits
from app.inference.recent import Recent
from app.inference.repository import Repository
from app.queue import Outbox
from app.registry import Database, migrations
from app.serving.batcher import Batcher
from app.serving.lane import BatchLimits
from app.serving.memory import machine_bytes
from app.serving.pool import Pool
from app.serving.statistics import Statistics
from app.settings import Settings
from app.web import pages
from app.web.report import render_report

_DESCRIPTION = """\
Upload an ONNX model, get quantized variants with measured reports, serve any of them.

Management is under `/api/v1`, inference under `/v2` (Open Inference Protocol).
"""


def create_app(settings: Settings) -> FastAPI:
    """The gateway as an ASGI application; its registry must have been migrated."""
    settings.make_folders()
    # Uploads are spooled where they are kept: on a disk known to be large, and under `home` like all else.
    tempfile.tempdir = str(settings.scratch_folder)
    database = Database(settings.registry_url)
    blobs = LocalBlobStore(settings.blob_folder)
    pool = Pool(
        blobs,
        settings.scratch_folder,
        intra_op_threads=settings.intra_op_threads,
        memory_bytes=settings.model_memory or machine_bytes() // 2,
    )
    statistics = Statistics()
    threads = settings.inference_threads or usable_cores()
    batcher = Batcher(pool, statistics, threads=threads, limits=_batch_limits(settings))
    outbox = Outbox(settings, database)
    dataplane = DataPlane(database, pool, statistics, batcher)
    core = Core(
        dataplane,
        Recent(dataplane.resolve, database),
        Repository(database, pool),
        database,
        settings.server_name,
        settings.log_level,
        threads,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        migrations.check_current(database)
        uploads.remove_leftovers(settings.scratch_folder)
        async with _grpc(settings, core):
            outbox.start()
            yield
        batcher.close()
        pool.close()
        outbox.stop()
        database.close()

    app = FastAPI(
        title="Octet",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = Services(settings, database, blobs, pool, outbox, render_report)
    app.add_middleware(uploads.BodyLimit, max_bytes=settings.max_upload_bytes)
    problems.install(app)
    _mount(app, Endpoints(core, Limits(settings.max_inference_bytes, settings.inference_body_seconds)))
    return app


def _grpc(settings: Settings, core: Core) -> AbstractAsyncContextManager[None]:
    """The port for gRPC, while the context lasts; without one, nothing of gRPC is imported."""
    if not settings.grpc_port:
        return nullcontext()
    from app.inference.grpc.server import listening
    from app.inference.grpc.service import Service

    return listening(Service(core), host=settings.host, port=settings.grpc_port, max_bytes=settings.max_inference_bytes)


def _batch_limits(settings: Settings) -> BatchLimits:
    return BatchLimits(
        batch_rows=settings.max_batch_rows,
        delay_ns=settings.max_batch_delay_us * 1000,
        waiting_rows=settings.max_waiting_rows,
    )


def _mount(app: FastAPI, inference: Endpoints) -> None:
    # Routes are tried in order, and inference is what must be quick.
    app.include_router(rest.router(inference))
    management = APIRouter(prefix="/api/v1")
    for nouns in (models, variants, points, datasets, jobs):
        management.include_router(nouns.routes)
    app.include_router(management)
    app.include_router(operations.routes)
    app.include_router(pages.routes)
    app.mount("/static", StaticFiles(directory=Path(web.__file__).parent / "static"), name="static")
