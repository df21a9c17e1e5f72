"""From an upload to a checked dataset."""

from importlib import import_module
from pathlib import Path
from typing import Any

from app.errors import InvalidDataset
from app.intake.artifacts import CheckedDataset, Limits
from app.intake.dataset_formats import Format, find


def check_dataset(
    source: Path, filename: str, folder: Path, limits: Limits, preprocess: str | None = None
) -> CheckedDataset:
    """Check the upload at `source`, which the client called `filename`, and write its canonical form to `folder`.

    Raises `InvalidDataset`, with the field `preprocess` where that is at fault, or `TooLarge`.
    """
    return read_dataset(find(source, filename), source, folder, limits, preprocess)


def read_dataset(
    kind: Format, source: Path, folder: Path, limits: Limits, preprocess: str | None = None
) -> CheckedDataset:
    """As `check_dataset`, for a file whose format is known to be `kind`."""
    checked: CheckedDataset = _imported(kind.reader)(source, folder / "dataset.npz", limits, _options(kind, preprocess))
    return checked


def _options(kind: Format, preprocess: str | None) -> Any:
    """What `preprocess` says, in the format's own model of it."""
    if kind.options is not None:
        # Imported only where there are options, for the sake of a quick start.
        from app.intake.preprocess import parsed

        return parsed(_imported(kind.options), preprocess)
    if preprocess:
        raise InvalidDataset(
            f"preprocess is not for {' or '.join(kind.endings)} files, whose arrays have their names",
            field="preprocess",
        )
    return None


def _imported(place: str) -> Any:
    """Import what a row of the table names as "module:attribute"."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
