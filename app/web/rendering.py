"""Templates: everything that goes into them is escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.registry.names import PATTERN
from app.web import charts, formats

environment = Environment(
    loader=PackageLoader("app.web", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def percent(value: float | None) -> str:
    """0.9731 → 97.31%; a dash for what was not measured."""
    return "–" if value is None else f"{value:.2%}"


def number(value: float | None, digits: int) -> str:
    """With `digits` decimals; a dash for what was not measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def megabytes(value: int) -> str:
    return f"{value / 1e6:.2f} MB"


environment.filters |= {"percent": percent, "number": number, "megabytes": megabytes, **formats.FILTERS}
environment.filters["chart_json"] = charts.as_json
# As `pattern` of a field has it: the whole value, and a hyphen in brackets only with a backslash.
environment.globals["name_pattern"] = PATTERN.strip("^$").replace("_-]", r"_\-]")
