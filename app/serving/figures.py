"""What one gateway process can tell of itself, and the sum over several that serve together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from app.serving.memory import resident_bytes
from app.serving.pool import Artifact, Pool
from app.serving.siblings import Siblings
from app.serving.statistics import Key, Statistics, Tally, merged


@dataclass(frozen=True)
class Figures:
    """`loaded_bytes`: the memory that each loaded artifact takes; `resident_bytes`: that of whole processes, and of
    those that they have for isolated models. `crashes`: how often these have ended by themselves."""

    tallies: Mapping[Key, Tally]
    loaded_bytes: Mapping[Artifact, int]
    resident_bytes: int
    processes: int = 1
    crashes: Mapping[Artifact, int] = field(default_factory=dict)

    def to_json(self) -> bytes:
        written = _Written(
            [(model, version, tally) for (model, version), tally in self.tallies.items()],
            list(self.loaded_bytes.items()),
            self.resident_bytes,
            list(self.crashes.items()),
        )
        return _FORM.dump_json(written)

    @classmethod
    def from_json(cls, raw: bytes) -> "Figures":
        """Raises `ValueError` for what `to_json` did not write."""
        written = _FORM.validate_json(raw)
        tallies = {(model, version): tally for model, version, tally in written.tallies}
        return cls(tallies, dict(written.loaded_bytes), written.resident_bytes, crashes=dict(written.crashes))


@dataclass(frozen=True)
class _Written:
    """As JSON has it, which takes no pairs for keys."""

    tallies: list[tuple[str, int, Tally]]
    loaded_bytes: list[tuple[Artifact, int]]
    resident_bytes: int
    crashes: list[tuple[Artifact, int]]


_FORM = TypeAdapter(_Written)


def of_this_process(statistics: Statistics, pool: Pool) -> Figures:
    resident = resident_bytes() + pool.resident_bytes()
    return Figures(statistics.snapshot(), pool.loaded_bytes(), resident, crashes=pool.crashes())


def gathered(statistics: Statistics, pool: Pool, siblings: Siblings) -> Figures:
    """Of all processes that serve together; blocks for as long as the others take to answer."""
    return summed([of_this_process(statistics, pool), *map(Figures.from_json, siblings.heard())])


def summed(figures: Sequence[Figures]) -> Figures:
    loaded: Counter[Artifact] = Counter()
    crashes: Counter[Artifact] = Counter()
    for one in figures:
        loaded.update(one.loaded_bytes)
        crashes.update(one.crashes)
    return Figures(
        merged([one.tallies for one in figures]),
        loaded,
        sum(one.resident_bytes for one in figures),
        sum(one.processes for one in figures),
        crashes,
    )
