"""Values as people read them. What was not measured is a dash."""

from datetime import UTC, datetime
from typing import Any

NOTHING = "–"


def size(value: int | None) -> str:
    """Bytes in a unit of three digits or so: 1095404 → 1.10 MB."""
    if value is None:
        return NOTHING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value >= 100 * factor else f"{value / factor:.2f} {unit}"
    return f"{value} B"


def share(value: float | None, digits: int = 1) -> str:
    """0.9731 → 97.3%."""
    return NOTHING if value is None else f"{value:.{digits}%}"


def figure(value: float | None, unit: str) -> str:
    """A metric's figure: 0.9844, "share" → 98.44%; 12.3456, "dB" → 12.35 dB."""
    if value is None:
        return NOTHING
    return f"{value:.2%}" if unit == "share" else f"{value:.4g} {unit}".rstrip()


def times(value: float | None) -> str:
    """1.951 → 1.95×."""
    return NOTHING if value is None else f"{value:.2f}×"


def milliseconds(value: float | None) -> str:
    """Three digits that count: 0.1994 → 0.199 ms."""
    if value is None:
        return NOTHING
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} ms"


def count(value: int | None) -> str:
    """12345 → 12,345."""
    return NOTHING if value is None else f"{value:,}"


def shape(value: list[int]) -> str:
    """[-1, 3, 32, 32] → ? × 3 × 32 × 32; one value alone has none."""
    return " × ".join("?" if axis < 0 else str(axis) for axis in value) or "scalar"


def duration(seconds: float | None) -> str:
    """75.2 → 1 min 15 s."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def instant(value: datetime) -> str:
    """When something happened, in UTC, to the minute."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def ago(value: datetime) -> str:
    """How long that is past: 3 min ago."""
    seconds = max(0, int((datetime.now(UTC) - value).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return "just now"


def leaf(value: Any) -> str:
    """An option, or another value of no unit, as text."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(leaf, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def after(text: str, beginning: str) -> str:
    """What is left of a sentence where what it begins with was said already."""
    return text.removeprefix(beginning)


FILTERS: dict[str, Any] = {
    "after": after,
    "size": size,
    "share": share,
    "figure": figure,
    "times": times,
    "milliseconds": milliseconds,
    "count": count,
    "shape": shape,
    "duration": duration,
    "instant": instant,
    "ago": ago,
    "leaf": leaf,
}
