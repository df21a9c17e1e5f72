"""What stands out in a comparison: the same as on the dashboard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import OctetError


class Incomprehensible(OctetError):
    """The server is of another version, and says what this one does not know."""


@dataclass(frozen=True)
class Marks:
    """Versions of variants: the one `recommended`, and those that none beats; `advice` says what to make of it."""

    recommended: frozenset[int] = frozenset()
    unbeaten: frozenset[int] = frozenset()
    advice: str = ""


def marks(rows: Sequence[Mapping[str, Any]]) -> Marks:
    """Of the newest revision in `rows`, which are those of the API."""
    # SQLAlchemy comes with them, which no other command of a client needs.
    from pydantic import ValidationError

    from app.registry.comparison import Row
    from app.web.advice import advice
    from app.web.frontier import tradeoff

    try:
        all_rows = [Row.model_validate(row) for row in rows]
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Incomprehensible(
            f"the server compares in a way that this `octet` does not know ('{where}'): use one of the server's version"
        ) from error
    newest = [row for row in all_rows if row.revision == max(each.revision for each in all_rows)]
    advised, chart = advice(newest), tradeoff(newest)
    best = chart.best if chart is not None else ()
    return Marks(
        recommended=frozenset({advised.variant.version} if advised.variant is not None else ()),
        unbeaten=frozenset(row.version for row in newest if row.variant in best),
        advice=f"{advised.heading}. {advised.because}",
    )
