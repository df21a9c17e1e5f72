"""What the routes of the management API work with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from app.access.keyring import Keyring
from app.blobs import BlobStore
from app.queue import Outbox
from app.registry import Database
from app.serving.pool import Pool
from app.settings import Settings

#: (model, row of the comparison, report) → a self-contained page.
ReportRenderer = Callable[[str, Mapping[str, Any], Mapping[str, Any]], str]


@dataclass(frozen=True)
class Services:
    """Made once by `app.main`; a test makes its own."""

    settings: Settings
    database: Database
    blobs: BlobStore
    pool: Pool
    outbox: Outbox
    metrics: CollectorRegistry
    render_report: ReportRenderer
    keyring: Keyring


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Provided = Annotated[Services, Depends(_services)]
