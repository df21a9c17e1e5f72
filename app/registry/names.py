"""What a model, dataset or variant may be called."""

import re

from app.errors import InvalidName

PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


def checked(field: str, name: str) -> str:
    """`name` itself; raises `InvalidName`, naming `field`, when it does not match `PATTERN`."""
    if not _NAME.match(name):
        raise InvalidName(field, name)
    return name
