"""From an upload to a checked dataset: which reader takes which kind of file."""

from pathlib import Path

from app.errors import InvalidDataset
from app.intake.artifacts import CheckedDataset, Limits

ENDINGS = (".npz", ".npy", ".zip", ".csv", ".jsonl", ".parquet")


def check_dataset(
    source: Path, filename: str, folder: Path, limits: Limits, preprocess: str | None = None
) -> CheckedDataset:
    """Check the upload at `source`, which the client called `filename`, and write its canonical form to `folder`.

    Raises `InvalidDataset`, with the field `preprocess` where that is at fault, or `TooLarge`. Each reader is
    imported when its kind of file comes, for the sake of a quick start.
    """
    ending = next((ending for ending in ENDINGS if filename.lower().endswith(ending)), None)
    if ending is None:
        raise InvalidDataset(f"{filename[-80:]!r} has an unknown ending; accepted are {', '.join(ENDINGS)}")
    if source.stat().st_size == 0:
        raise InvalidDataset(f"the file is empty; upload a dataset as one of {', '.join(ENDINGS)}")
    target = folder / "dataset.npz"
    if ending in (".npz", ".npy"):
        from app.intake.arrays import read_npy, read_npz

        if ending == ".npz":
            return read_npz(source, target, limits, preprocess)
        return read_npy(source, target, limits, preprocess)
    if ending == ".zip":
        from app.intake.images import read_images

        return read_images(source, target, limits, preprocess)
    from app.intake.tables import read_table

    return read_table(source, ending, target, limits, preprocess)
