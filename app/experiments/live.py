"""A running experiment as requests meet it, and which of its arms answers one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from app.caller import CALLER
from app.errors import Invalid
from app.experiments.assignment import Place, Sample, Split
from app.experiments.definition import samples_of, split_of
from app.registry.tables import Experiment

#: A request's header by its lower-case name, None where it has none.
Header = Callable[[bytes], str | None]
Parameters = Mapping[str, str | int | float | bool]

_KEY_HEADERS = (b"x-api-key", b"authorization")


class Reason(StrEnum):
    """Why a variant answered: the unit's hash, its name in the request, no cover, or for want of another."""

    hash = "hash"
    forced = "forced"
    uncovered = "uncovered"
    fallback = "fallback"


@dataclass(frozen=True)
class UnitSource:
    """One place where requests may say whose they are: `header:NAME`, `param:NAME` or `api_key`.

    The last is the id of the key that was shown; while there are no keys here, whatever was sent for one.
    Raises `Invalid` for any other.
    """

    text: str

    def __post_init__(self) -> None:
        kind, _, name = self.text.partition(":")
        if self.text != "api_key" and (kind not in {"header", "param"} or not name):
            raise Invalid(
                f"'{self.text[:80]}' is no source of units; there are header:NAME, param:NAME and api_key", field="unit"
            )

    def read(self, header: Header, parameters: Parameters) -> str | None:
        kind, _, name = self.text.partition(":")
        if kind == "param":
            value = parameters.get(name)
            return None if value is None or value == "" else str(value)
        if kind == "api_key" and (key := CALLER.get().key) is not None:
            # Its id, which is no secret: units are reported by name, and those are kept.
            return key
        names = _KEY_HEADERS if kind == "api_key" else (name.lower().encode(),)
        return next((value for each in names if (value := header(each))), None)


@dataclass(frozen=True)
class Assignment:
    """`variant`: who answers; None for the default. `place`: of a unit that counts."""

    variant: str | None
    place: Place | None
    reason: Reason


@dataclass(frozen=True)
class Live:
    """`random`: requests that name no unit are units of their own; else the control answers them, uncounted."""

    id: str
    split: Split
    sources: Sequence[UnitSource]
    random: bool
    samples: Sequence[Sample] = ()

    @classmethod
    def of(cls, experiment: Experiment) -> "Live":
        """As the registry has it."""
        return cls(
            experiment.id,
            split_of(experiment),
            tuple(UnitSource(text) for text in experiment.unit["from"]),
            experiment.unit["on_missing"] == "random",
            samples_of(experiment),
        )

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Their variants, in the order of the experiment."""
        return tuple(arm.variant for arm in self.split.arms)

    def assign(self, header: Header, parameters: Parameters, request_id: str) -> Assignment:
        """Who answers this request; nothing is stored or looked up."""
        unit = next((found for source in self.sources if (found := source.read(header, parameters))), None)
        if unit is None:
            if not self.random:
                return Assignment(self.split.control.variant, None, Reason.fallback)
            unit = request_id
        place = self.split.place(unit)
        if place.variant is None:
            return Assignment(None, None, Reason.uncovered)
        return Assignment(place.variant, place, Reason.hash)
