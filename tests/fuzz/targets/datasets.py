"""The reader of datasets: a line with the ending of the file and what was asked of its preprocessing, then the file."""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from app.errors import OctetError

# Readers are imported when their kind of file comes: too late to be traced.
from app.intake import arrays, images, tables  # noqa: F401
from app.intake.artifacts import Limits
from app.intake.dataset import check_dataset
from app.intake.dataset_file import open_dataset
from app.intake.dataset_formats import endings
from tests.fuzz.targets import Mutate, check_refusal
from tests.fuzz.zips import changed_zip

_LIMITS = Limits(seconds=60, unpacked_bytes=16 * 1024**2)
_NAMES = ("label.npy", "class_names.json", "x.npy", "cat/1.png", "dog/1.png")
_PREPROCESSES = ("", '{"input": "x"}', '{"mean": [0.5], "std": [0.25]}', '{"label": "y"}', '{"size": [4, 4]}')


def check(data: bytes) -> None:
    """What is accepted can be opened, and is the same when it is uploaded as it was kept."""
    line, _, content = data.partition(b"\n")
    ending, _, preprocess = line.decode(errors="replace").partition(" ")
    with TemporaryDirectory(prefix="octet-fuzz-") as name:
        folder = Path(name)
        source = folder / "upload"
        source.write_bytes(content)
        try:
            checked = check_dataset(source, f"dataset{ending}", folder, _LIMITS, preprocess or None)
        except OctetError as refusal:
            check_refusal(refusal)
            return
        samples = open_dataset(checked.path)
        assert len(samples) == checked.samples
        assert {spec.name: spec.shape for spec in checked.arrays} == {
            each: array.shape for each, array in samples.arrays.items()
        }
        assert (samples.labels is not None) == checked.labelled
        (folder / "again").mkdir()
        assert check_dataset(checked.path, "dataset.npz", folder / "again", _LIMITS).digest == checked.digest


def mutated(data: bytes, random: Random, mutate: Mutate) -> bytes:
    line, _, content = data.partition(b"\n")
    if random.random() < 0.1:
        return f"{random.choice(endings())} {random.choice(_PREPROCESSES)}".encode() + b"\n" + content
    if random.random() < 0.1:
        return mutate(line) + b"\n" + content
    if not content.startswith(b"PK"):
        return line + b"\n" + mutate(content)
    return line + b"\n" + changed_zip(content, random, mutate, _NAMES)
