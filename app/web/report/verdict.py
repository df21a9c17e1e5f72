"""What there is to say of a variant in one sentence."""

from collections.abc import Mapping
from typing import Any

from app.contracts.outcome import REJECTED


def verdict(row: Mapping[str, Any]) -> str:
    """The variant in one sentence: what it costs and what it gives."""
    if row["method"] == "original":
        return "The model as it was uploaded, which all variants are measured against."
    parts = [f"{row['size_ratio']:.0%} of the original's size"]
    if row["speedup"] is not None:
        parts.append(_speed(row["speedup"], row["speedup_low"], row["speedup_high"]))
    parts.append(_quality(row))
    return f"{_gate(row)}{', '.join(parts[:-1])}; {parts[-1]}."


def _gate(row: Mapping[str, Any]) -> str:
    if row["verdict"] != REJECTED:
        return ""
    served = "; it serves all the same, by an explicit override" if row["overridden"] else " and does not serve"
    return f"Rejected{served}: {'; '.join(row['reasons'])}. It has "


def _speed(speedup: float, low: float, high: float) -> str:
    if low > 1:
        return f"{speedup:.2f}x as fast ({low:.2f} to {high:.2f}, 95% confidence)"
    if high < 1:
        return f"slower than the original, {speedup:.2f}x ({low:.2f} to {high:.2f}, 95% confidence)"
    return f"as fast as the original within noise ({low:.2f}x to {high:.2f}x, 95% confidence)"


def _quality(row: Mapping[str, Any]) -> str:
    if not row["samples"]:
        return "its answers were not compared, since no dataset was named"
    said: list[str] = []
    if row["accuracy"] is not None:
        said.append(f"accuracy {row['accuracy']:.2%}")
    if row["accuracy_ratio"] is not None:
        said.append(f"{row['accuracy_ratio']:.2%} of the original's")
    if row["agreement"] is not None:
        said.append(f"the same answer as the original on {row['agreement']:.2%} of {row['samples']} samples")
    elif row["cosine"] is not None:
        said.append(f"cosine to the original {row['cosine']:.4f} on {row['samples']} samples")
    return ", ".join(said) or "its answers could not be compared"
