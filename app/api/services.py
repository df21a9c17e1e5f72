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
from app.serving.figures import Figures
from app.serving.pool import Artifact, Pool
from app.serving.statistics import Key
from app.settings import Settings

#: (model, row of the comparison, report) → a self-contained page, and the headers that it needs.
ReportRenderer = Callable[[str, Mapping[str, Any], Mapping[str, Any]], tuple[str, Mapping[str, str]]]

#: What all processes have counted; and of each variant that there is, its label and its artifact.
Counted = Callable[[], tuple[Figures, Mapping[Key, tuple[str, Artifact]]]]


@dataclass(frozen=True)
class Services:
    """Made once by `app.main`; a test makes its own."""

    settings: Settings
    database: Database
    blobs: BlobStore
    pool: Pool
    outbox: Outbox
    counted: Counted
    metrics: CollectorRegistry
    render_report: ReportRenderer
    keyring: Keyring


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Provided = Annotated[Services, Depends(_services)]
