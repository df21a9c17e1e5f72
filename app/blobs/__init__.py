"""Content-addressed bytes: models, datasets, artifacts."""

from app.blobs.local import LocalBlobStore
from app.blobs.store import BlobStore

__all__ = ["BlobStore", "LocalBlobStore"]
