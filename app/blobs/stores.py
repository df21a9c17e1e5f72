"""The table of blob stores, and the store that the settings choose."""

from importlib import import_module
from urllib.parse import urlsplit

from app.blobs.store import BlobStore
from app.errors import Invalid
from app.settings import Settings

#: URL scheme -> "module:Class". The module is imported only when its scheme is used.
STORES: dict[str, str] = {
    "file": "app.blobs.local:LocalBlobStore",
}


def open_store(settings: Settings) -> BlobStore:
    """Open the blob store that `OCTET_BLOBS` names.

    Raises:
        Invalid: The URL has an unknown scheme, or the store cannot use the URL.
    """
    try:
        scheme = urlsplit(settings.blob_url).scheme
    except ValueError as error:
        raise Invalid(f"OCTET_BLOBS: this is no URL: {error}") from error
    if scheme not in STORES:
        known = ", ".join(f"{name}://" for name in STORES)
        raise Invalid(f"OCTET_BLOBS: unknown URL scheme {scheme!r}; expected one of {known}")
    module, _, name = STORES[scheme].partition(":")
    kind: type[BlobStore] = getattr(import_module(module), name)
    return kind.from_url(settings.blob_url, settings)
