"""Content-addressed bytes: models, datasets, artifacts."""

from app.blobs.linked import linked
from app.blobs.store import BlobStore
from app.blobs.stores import open_store

__all__ = ["BlobStore", "linked", "open_store"]
