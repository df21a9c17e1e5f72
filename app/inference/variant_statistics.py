"""What the variants have answered, of those that there are."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.inference.naming import find_variants
from app.registry import Database, OperationalError, models, variants
from app.serving.figures import Figures
from app.serving.pool import Artifact
from app.serving.statistics import Key, Tally

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VariantCounts:
    """What a variant has answered so far. `loaded_bytes`: the memory that it takes, None where it is not loaded."""

    model: str
    version: int
    tally: Tally
    loaded_bytes: int | None


class VariantStatistics:
    """Asks the registry, and so blocks. `figures`: of all processes that serve together."""

    def __init__(self, database: Database, figures: Callable[[], Figures]) -> None:
        self._database = database
        self._figures = figures
        self._known: dict[Key, tuple[str, Artifact]] = {}

    def of(self, name: str | None = None, version: str | None = None) -> list[VariantCounts]:
        """What was answered by the variants named; by all, for no name.

        A model without a version means each of its variants. Raises `UnknownModel` or `UnknownVariant`.
        """
        with self._database.reading() as session:
            named = (
                [find_variants(session, name, version)]
                if name is not None
                else [(model, variants.listed(session, model)) for model in models.listed(session)]
            )
            rows = [(model.name, row.version, Artifact.of(row)) for model, listed in named for row in listed]
        figures = self._figures()
        return [
            VariantCounts(
                model,
                number,
                figures.tallies.get((model, number), Tally()),
                figures.loaded_bytes.get(artifact),
            )
            for model, number, artifact in rows
        ]

    def all(self) -> tuple[Figures, dict[Key, tuple[str, Artifact]]]:
        """The figures, and of each variant that there is, or was when the registry answered last, its label and
        artifact.
        """
        try:
            with self._database.reading() as session:
                self._known = {
                    (model.name, row.version): (row.label, Artifact.of(row))
                    for model in models.listed(session)
                    for row in variants.listed(session, model)
                }
        except OperationalError as error:
            _log.warning("the registry does not answer: %s", error)
        return self._figures(), self._known
