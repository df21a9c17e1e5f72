"""What a job works on: its specification, and the model and dataset in its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app import engines
from app.contracts.job_spec import JobSpec
from app.contracts.methods import OFFERED
from app.contracts.options import Int8Options
from app.engines import Engine, LoadedModel
from app.intake.dataset_file import Samples, open_dataset
from worker.evaluation.split import Split, split
from worker.samples import Feeder, Feeds, made_up

_LATENCY_REQUESTS = 16


@dataclass(frozen=True)
class Dataset:
    """Samples, mapped into memory, and which of them calibrate and which evaluate."""

    samples: Samples
    split: Split


@dataclass(frozen=True)
class JobInputs:
    """The inputs of one job, read and never written. `dataset` is None for a job without one."""

    spec: JobSpec
    folder: Path
    dataset: Dataset | None

    @classmethod
    def open(cls, spec: JobSpec, folder: Path) -> "JobInputs":
        """Open what `spec` names in `folder`.

        Raises:
            OctetError: The dataset cannot be read.
        """
        if spec.dataset is None:
            return cls(spec, folder, None)
        samples = open_dataset(folder / spec.dataset)
        return cls(spec, folder, Dataset(samples, _split(spec, len(samples))))

    @property
    def source(self) -> Path:
        """The uploaded model."""
        return self.folder / self.spec.model

    @property
    def engine(self) -> Engine:
        return engines.get(self.spec.engine)

    @property
    def seed(self) -> int:
        return int(self.spec.options["seed"])

    @property
    def calibration_samples(self) -> int:
        """How many samples calibrate at most."""
        return _calibration_samples(self.spec)

    @property
    def class_names(self) -> Sequence[str] | None:
        """The class names of the model's upload or, where that has none, of the dataset."""
        return self.spec.class_names or (self.dataset.samples.class_names if self.dataset is not None else None)

    def load_original(self) -> LoadedModel:
        return self.engine.load(self.source, intra_op_threads=self.spec.intra_op_threads)

    def requests(self, original: LoadedModel) -> list[Feeds]:
        """Return single requests: held-out samples, or one made-up request where there is no dataset."""
        if self.dataset is None:
            return [made_up(original, seed=self.seed)]
        feeder = Feeder(original.inputs, self.dataset.samples.arrays)
        indices = self.dataset.split.evaluation[:_LATENCY_REQUESTS]
        return [batch.feeds for batch in feeder.batches(indices, 1)]


def _split(spec: JobSpec, samples: int) -> Split:
    """Methods that do not calibrate leave out what INT8 would, so that all are judged on the same samples."""
    reserved = [_calibration_samples(spec), *(spec.options[name] for name in OFFERED[spec.method].reserves)]
    return split(
        samples,
        seed=int(spec.options["seed"]),
        calibration_samples=max(reserved),
        evaluation_samples=spec.options["evaluation_samples"],
    )


def _calibration_samples(spec: JobSpec) -> int:
    default = Int8Options.model_fields["calibration_samples"].default
    return int(spec.options.get("calibration_samples", default))
