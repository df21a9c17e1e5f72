"""Parts of a report that have no form of their own: whatever they hold, as tables and text."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from app.web.formats import NOTHING
from app.web.rendering import environment


def is_table(value: Any) -> bool:
    """Whether a template should show `value` as a table of its own."""
    return isinstance(value, Mapping)


def is_rows(value: Any) -> bool:
    """Whether `value` is a list of records, to be shown as the rows of one table."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def shown(value: Any) -> str:
    """A leaf of the report as text."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(shown(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    return str(value)


def breakable(name: str) -> Markup:
    """A path of a graph, which may go on in a new line where a browser would not think so."""
    return Markup("/<wbr>").join(name.split("/"))


environment.filters |= {"shown": shown, "breakable": breakable}
environment.tests["table"] = is_table
environment.tests["rows"] = is_rows
