"""What a model, dataset or variant may be called."""

import re

from app.errors import InvalidName

LONGEST = 63
PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


def is_valid(name: str) -> bool:
    """Whether anything can be called `name`: what cannot need not be looked for, and some databases would not."""
    return _NAME.match(name) is not None


def checked(field: str, name: str) -> str:
    """`name` itself; raises `InvalidName`, naming `field`, when it does not match `PATTERN`."""
    if not is_valid(name):
        raise InvalidName(field, name)
    return name
