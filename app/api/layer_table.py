"""The layers of a report as a table for spreadsheets."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

_COLUMNS = ("name", "operator", "sqnr_db", "tensor", "shape", "activations", "weights", "repairs")

# A spreadsheet takes text that begins so for a formula, and would run it (OWASP, CSV Injection).
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

EXAMPLE = (
    "name,operator,sqnr_db,tensor,shape,activations,weights,repairs\r\n"
    "/conv1/Conv,Conv,34.5,/relu/Relu_output_0,1x16x32x32,uint8,int8,output range by mse; bias corrected\r\n"
)


def as_csv(layers: Iterable[Mapping[str, Any]]) -> str:
    """A row for each of `layers`, in their order (RFC 4180). Empty is what is not known, or an SQNR without noise.

    Text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for layer in layers:
        table.writerow([_cell(layer.get(column), "x" if column == "shape" else "; ") for column in _COLUMNS])
    return text.getvalue()


def _cell(value: Any, separator: str) -> Any:
    if isinstance(value, list):
        value = separator.join(str(part) for part in value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
