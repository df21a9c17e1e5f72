"""A backup: one `.tar` file that holds the registry's rows and every blob that they name.

manifest.json            the format, the schema of the rows, when, by which version
blobs/DIGEST             as they are; the name is the sha256 of the content
registry/TABLE.jsonl     a row a line; tables come after those that they refer to
end.json                 how many rows and blobs there are: without it, the file is not whole
"""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

FORMAT = 1
MANIFEST, END = "manifest.json", "end.json"
BLOBS, REGISTRY, ROWS = "blobs/", "registry/", ".jsonl"


class Manifest(BaseModel):
    """What a backup begins with. `schema_revision`: the last migration that the rows have had."""

    model_config = ConfigDict(frozen=True)

    format: int
    octet: str
    schema_revision: str
    created_at: datetime


class Contents(BaseModel):
    """What a backup ends with. `missing`: blobs that rows name, and that were not there."""

    model_config = ConfigDict(frozen=True)

    blobs: int
    blob_bytes: int
    rows: dict[str, int]
    missing: list[str]
