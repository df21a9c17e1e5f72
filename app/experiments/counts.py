"""What one process has counted of one experiment, and what all of them have together."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.experiments.assignment import Place
from app.experiments.evidence import Evidence
from app.experiments.moments import Clusters
from app.experiments.pairs import Pairs
from app.experiments.sketch import Latencies
from app.experiments.units import Units


class Counts:
    """Sums over requests, by arm. Its owner guards it with a lock.

    Attributes:
        arms: the variants, in the order of the experiment.
        errors: of each arm, 1 for a request that failed and 0 for one that was answered.
        latencies: of each arm, of answered requests.
        units: who was in which arm.
        pairs: of each variant that a shadow has answered for; it may be no arm.
        outcomes: of each arm, by name, what clients reported.
    """

    __slots__ = ("_index", "arms", "errors", "latencies", "outcomes", "pairs", "units")

    def __init__(self, arms: Sequence[str]) -> None:
        self.arms = tuple(arms)
        self.errors = [Clusters() for _ in self.arms]
        self.latencies = [Latencies() for _ in self.arms]
        self.units = Units()
        self.pairs: dict[str, Pairs] = {}
        self.outcomes: dict[str, dict[str, Clusters]] = {}
        self._index = {variant: index for index, variant in enumerate(self.arms)}

    def answered(self, place: Place, latency_ns: int) -> None:
        """The arm of a unit has answered a request of it. Raises KeyError for a variant that is no arm."""
        index = self._arm(place)
        self.errors[index].add(place.bucket, 0)
        self.latencies[index].add(place.bucket, latency_ns)
        self.units.add(place.key, index)

    def failed(self, place: Place) -> None:
        """The arm of a unit could not answer it. Raises KeyError for a variant that is no arm."""
        index = self._arm(place)
        self.errors[index].add(place.bucket, 1)
        self.units.add(place.key, index)

    def paired(
        self,
        variant: str,
        *,
        control_ns: int,
        variant_ns: int,
        agree: bool | None,
        cosine: float | None,
        max_abs_difference: float,
    ) -> None:
        """A shadow has answered what the control had: see `Pairs.add`."""
        self.pairs.setdefault(variant, Pairs()).add(
            control_ns=control_ns,
            variant_ns=variant_ns,
            agree=agree,
            cosine=cosine,
            max_abs_difference=max_abs_difference,
        )

    def labelled(self, variant: str, labelled: int, control_only: int, variant_only: int) -> None:
        """Right answers became known to requests that a shadow has answered: see `Pairs.add_labels`."""
        self.pairs.setdefault(variant, Pairs()).add_labels(labelled, control_only, variant_only)

    def reported(
        self, variant: str, name: str, bucket: int, total: float, count: int, bounds: tuple[float, float]
    ) -> None:
        """Clients reported as many values of an outcome, of units of a bucket in an arm: see `Clusters.add_sum`."""
        by_name = self.outcomes.setdefault(variant, {})
        by_name.setdefault(name, Clusters()).add_sum(bucket, total, count, bounds)

    def requests(self, variant: str) -> int:
        """How many requests of units in this arm were answered or failed."""
        return int(sum(self.errors[self._index[variant]].denominators))

    def failures(self, variant: str) -> int:
        """How many of the `requests` failed."""
        return int(sum(self.errors[self._index[variant]].numerators))

    def unit_count(self, variant: str) -> int:
        """How many units were in this arm, about: see `Units`."""
        return self.units.count(self._index[variant])

    def remembered_units(self) -> dict[str, int]:
        """Of each arm, what the sample ratio is tested on."""
        return {variant: self.units.remembered(index) for index, variant in enumerate(self.arms)}

    def merge(self, other: "Counts") -> None:
        """Add what another process has counted. Raises ValueError for counts of other arms."""
        if other.arms != self.arms:
            raise ValueError(f"counts of the arms {other.arms} cannot be added to those of {self.arms}")
        for index in range(len(self.arms)):
            self.errors[index].merge(other.errors[index])
            self.latencies[index].merge(other.latencies[index])
        self.units.merge(other.units)
        for variant, pairs in other.pairs.items():
            self.pairs.setdefault(variant, Pairs()).merge(pairs)
        for variant, by_name in other.outcomes.items():
            mine = self.outcomes.setdefault(variant, {})
            for name, clusters in by_name.items():
                mine.setdefault(name, Clusters()).merge(clusters)

    def evidence(self) -> list[Evidence]:
        """Of each arm, in order, and then of shadows that are none."""
        of_arms = [
            Evidence(
                variant,
                errors=self.errors[index].moments,
                latency=self.latencies[index],
                outcomes={name: clusters.moments for name, clusters in self.outcomes.get(variant, {}).items()},
                pairs=self.pairs.get(variant, Pairs()),
            )
            for index, variant in enumerate(self.arms)
        ]
        shadows = sorted(self.pairs.keys() - self._index.keys())
        return of_arms + [Evidence(variant, pairs=self.pairs[variant]) for variant in shadows]

    def to_json(self) -> dict[str, Any]:
        return {
            "arms": list(self.arms),
            "errors": [clusters.to_json() for clusters in self.errors],
            "latencies": [latencies.to_json() for latencies in self.latencies],
            "units": self.units.to_json(),
            "pairs": {variant: pairs.to_json() for variant, pairs in self.pairs.items()},
            "outcomes": {
                variant: {name: clusters.to_json() for name, clusters in by_name.items()}
                for variant, by_name in self.outcomes.items()
            },
        }

    @classmethod
    def from_json(cls, counted: Mapping[str, Any]) -> "Counts":
        counts = cls(counted["arms"])
        counts.errors = [Clusters.from_json(each) for each in counted["errors"]]
        counts.latencies = [Latencies.from_json(each) for each in counted["latencies"]]
        counts.units = Units.from_json(counted["units"])
        counts.pairs = {variant: Pairs.from_json(each) for variant, each in counted["pairs"].items()}
        # Counts of the time before this have none.
        counts.outcomes = {
            variant: {name: Clusters.from_json(each) for name, each in by_name.items()}
            for variant, by_name in counted.get("outcomes", {}).items()
        }
        return counts

    def _arm(self, place: Place) -> int:
        # `Place.variant` is None where a unit is not covered, which is no arm either.
        return self._index[place.variant]  # type: ignore[index]
