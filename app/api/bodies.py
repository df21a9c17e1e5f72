"""What is believed of a body: that it is what the document says, and nothing that could be taken for it."""

import re
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d")


class Strict(BaseModel):
    """A request, in which what is not known is refused, numbers are numbers, and 0 is not false."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _not_a_number(value: Any) -> Any:
    # Seconds since 1970 would pass, too: a slip, such as days in place of a date, would become some day of that year.
    if isinstance(value, str) and _DATE_AND_TIME.match(value):
        return value
    raise ValueError("it must be a date and a time with their zone, such as 2026-01-31T12:00:00Z")


#: A moment, as RFC 3339 has it.
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_not_a_number)]
