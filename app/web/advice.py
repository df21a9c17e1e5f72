"""What to make of a comparison, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.outcome import REJECTED
from app.registry.comparison import Row
from app.registry.models import ORIGINAL
from app.registry.recommendation import Recommendation, recommendation
from app.web import formats


@dataclass(frozen=True)
class Advice:
    """`variant` is the row that is recommended, if there is a reason for one; `because` is a sentence or two."""

    variant: Row | None
    heading: str
    because: str


def advice(rows: Sequence[Row], *, under_way: bool = False) -> Advice:
    """On the variants of one revision, the original among them. `under_way`: there will be more soon."""
    made = [row for row in rows if row.variant != ORIGINAL]
    found = recommendation(rows)
    if found is not None:
        return Advice(found.row, f"Recommended: {found.row.variant}", _reasons(found, rows))
    if not made:
        because = "What is being made is" if under_way else "Quantize it, and what comes of that is"
        return Advice(None, "Only the original is here", f"{because} compared here once it is done.")
    return Advice(None, "Stay with the original", _reasons_for_none(made))


def _reasons(found: Recommendation[Row], rows: Sequence[Row]) -> str:
    row = found.row
    interval = f"{formats.times(row.speedup_low)} to {formats.times(row.speedup_high)} at 95% confidence"
    speed = (
        f"{formats.times(row.speedup)} as fast as the original ({interval})"
        if found.faster
        else f"as fast as the original within noise ({interval})"
    )
    said = f"It is {speed}, at {formats.share(row.size_ratio, 0)} of the size; {_quality(row, rows)}."
    if found.rivals:
        names = _listed([rival.variant for rival in found.rivals])
        verb = "is" if len(found.rivals) == 1 else "are"
        said += f" {names} {verb} as fast within noise, but not closer to the original's answers, or larger."
    return said


def _quality(row: Row, rows: Sequence[Row]) -> str:
    samples = f"{row.samples:,} held-out samples"
    if row.accuracy is not None:
        original = next((each.accuracy for each in rows if each.variant == ORIGINAL), None)
        against = f", where the original has {formats.share(original, 2)}" if original is not None else ""
        return f"accuracy is {formats.share(row.accuracy, 2)} on {samples}{against}"
    if row.agreement is not None:
        return f"it gives the original's answer on {formats.share(row.agreement, 2)} of {samples}; there are no labels"
    if row.cosine is not None:
        return f"its outputs have cosine {row.cosine:.4f} to the original's on {samples}"
    return f"its answers were compared on {samples}"


def _reasons_for_none(made: Sequence[Row]) -> str:
    blind = [row.variant for row in made if not row.samples]
    rejected = [row.variant for row in made if row.verdict == REJECTED]
    rest = [row.variant for row in made if row.variant not in {*blind, *rejected}]
    said = []
    if rejected:
        said.append(f"{_listed(rejected)} broke the budget.")
    if rest:
        said.append(f"{_listed(rest)} {'is' if len(rest) == 1 else 'are'} neither faster beyond noise nor smaller.")
    if blind:
        said.append(f"What {_listed(blind)} would change in the answers was not measured: that takes a dataset.")
    return " ".join(said)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
