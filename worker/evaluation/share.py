"""How many of some rows are equal."""

from dataclasses import dataclass

from app.engines.classes import Classes


@dataclass
class Share:
    """How many of the rows counted so far have equal classes."""

    equal: int = 0
    rows: int = 0

    def add(self, left: Classes, right: Classes) -> None:
        self.equal += int((left == right).sum())
        self.rows += len(left)

    @property
    def value(self) -> float | None:
        """0..1; None before the first row."""
        return self.equal / self.rows if self.rows else None
