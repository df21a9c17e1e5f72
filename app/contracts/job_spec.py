"""The spec of a job: `job.json` in the folder of its process, written by the runner."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

FILE_NAME = "job.json"


class JobSpec(BaseModel):
    """One job. File names are plain names in the job's folder; `options` are complete and checked.

    `engine` names what runs the model, and what is made of it. `model` is the upload, its external data beside it.
    `statistics` is what an earlier job on the same model and samples found in calibration, if that is known, and
    `checkpoint` what an earlier attempt at this job had reached. These files may be links into the blob store: they are
    read, never written. `point` names the nodes that stay in FP32 where an earlier search has chosen them.
    `intra_op_threads` is what serving uses, so that what is measured is
    what is served.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    options: dict[str, Any]
    engine: str
    model: str
    model_digest: str
    dataset: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    intra_op_threads: int
    class_names: list[str] | None = None
    statistics: str | None = None
    checkpoint: str | None = None
    point: list[str] | None = None

    def write(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(self.model_dump_json())

    @classmethod
    def read(cls, folder: Path) -> "JobSpec":
        return cls.model_validate_json((folder / FILE_NAME).read_text())
