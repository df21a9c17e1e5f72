"""Which precision each layer got, and why, for those who read the report."""

from collections.abc import Collection, Sequence
from typing import Any

from worker.graph.groups import Group
from worker.repair.judge import decibels
from worker.search.sensitivity import Sensitivity
from worker.search.trials import Kept


def explained(
    sensitivities: Sequence[Sensitivity], groups: Collection[Group], kept: Kept, always: Kept, high_precision: str
) -> list[dict[str, Any]]:
    """A row for each of `groups`, in graph order; those `kept`, `always` of them by wish, are not in INT8."""
    known = {one.group.name: one for one in sensitivities}
    high = "fp32" if high_precision == "fp32" else "fp16 storage"
    rows = []
    for group in groups:
        sensitivity = known.get(group.name)
        rows.append(
            {
                "layer": group.name,
                "nodes": len(group.nodes),
                "precision": high if group.name in kept else "int8",
                "sqnr_db": decibels(sensitivity.damage) if sensitivity and sensitivity.damage is not None else None,
                "accuracy_change": sensitivity.accuracy_change if sensitivity else None,
                "fp32_ms": sensitivity.fp32_ms if sensitivity else None,
                "int8_ms": sensitivity.int8_ms if sensitivity else None,
                "why": _why(sensitivity, group.name in kept, group.name in always),
            }
        )
    return rows


def _why(sensitivity: Sensitivity | None, is_kept: bool, is_wished: bool) -> str:
    if is_wished:
        return "asked for by keep_fp32"
    if sensitivity is None:
        return "as the point of the earlier search has it"
    if is_kept:
        if sensitivity.saved_ms <= 0.0:
            return "INT8 is no faster here"
        return "its noise is not worth the time that INT8 saves"
    if sensitivity.saved_ms <= 0.0:
        return "no faster by itself, but its neighbours need not convert"
    return "fits in the budget, and saves time"
