"""Jobs for a runner, and what its child would hand over."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.blobs import open_store
from app.contracts import methods
from app.contracts.figures import Figures
from app.contracts.outcome import Outcome
from app.registry import Database, datasets, jobs, models
from app.settings import Settings
from tests import graphs
from worker.job_log import JobLog

#: What a child says, None where it says nothing for a while.
Messages = Iterator[dict[str, Any] | None]


def submitted(
    settings: Settings,
    database: Database,
    method: str = "fp16",
    label: str | None = None,
    dataset: str | None = None,
    **options: object,
) -> str:
    path = graphs.save(graphs.linear_classifier(), settings.scratch_folder / "upload.onnx")
    open_store(settings).put(path, "a" * 64)
    new = models.NewRevision(
        digest="a" * 64,
        file_digest="a" * 64,
        data_digest=None,
        data_name=None,
        size_bytes=1000,
        opset=17,
        inputs=[],
        outputs=[],
        operators={"Gemm": 1},
        operator_nodes={"Gemm": "classify"},
        float_bytes=40,
        class_names=None,
        engine="onnxruntime",
    )
    with database.writing() as session:
        revision, _ = models.register(session, "linear", new)
        job = jobs.submit(
            session,
            model=revision.model,
            revision=revision,
            method=methods.find(method),
            options=options,
            dataset=datasets.find(session, dataset) if dataset is not None else None,
            label=label,
        )
        return job.id


def with_dataset(settings: Settings, database: Database) -> str:
    """A dataset of that name, whose blob is no dataset: these tests run no pipeline."""
    path = settings.scratch_folder / "dataset"
    path.write_bytes(b"samples")
    open_store(settings).put(path, "d" * 64)
    new = datasets.NewDataset("d" * 64, size_bytes=7, samples=2, arrays=[], labelled=False, class_names=None)
    with database.writing() as session:
        return datasets.register(session, "samples", new)[0].name


def made(folder: Path, statistics: str | None = None) -> Outcome:
    """What a pipeline hands over, its artifact in `folder`."""
    graphs.save(graphs.linear_classifier(seed=1), folder / "variant.onnx")
    return Outcome(
        artifact="variant.onnx",
        engine="onnxruntime",
        verdict="accepted",
        statistics=statistics,
        samples=0,
        original=Figures(),
        variant=Figures(),
        report={},
    )


def child(play: Callable[[Path], Messages]) -> type:
    """A stand-in for `worker.child.Child` that says what `play` yields, and crashes when that ends."""

    class Child:
        def __init__(self, folder: Path, log: JobLog, **limits: float) -> None:
            self._folder = folder

        def messages(self, *, every_seconds: float) -> Messages:
            return play(self._folder)

        def end(self) -> None: ...

        def dump_stack(self) -> None: ...

        def crash(self, stage: str) -> str:
            return f"crashed at stage '{stage}'"

    return Child


def write(path: Path, content: bytes) -> str:
    """A file renamed into place, as children write what they announce; returns its name."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.replace(path)
    return path.name
