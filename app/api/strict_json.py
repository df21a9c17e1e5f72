"""Bodies are JSON by the letter: the framework's parser lets through halves of letters, NaN, and other encodings."""

import orjson
from starlette.requests import Request

from app.errors import Invalid


async def strict_json(request: Request) -> None:
    """A dependency of all management routes; raises `Invalid` for what RFC 8259 does not call JSON."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return
    try:
        orjson.loads(await request.body() or b"null")
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is not valid JSON: {error}", field="body") from error
