"""Rows to begin with."""

import itertools
from collections.abc import Callable

import pytest

from app.contracts import methods
from app.registry import Database, Session, jobs, models
from app.registry.tables import Job, Revision

_numbers = itertools.count()


def new_revision(**changes: object) -> models.NewRevision:
    number = next(_numbers)
    facts: dict[str, object] = {
        "digest": f"{number:064d}",
        "file_digest": f"{number:064d}",
        "data_digest": None,
        "data_name": None,
        "size_bytes": 1000,
        "opset": 17,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "operators": {"Gemm": 1},
        "operator_nodes": {"Gemm": "classify"},
        "float_bytes": 40,
        "class_names": None,
        "engine": "onnxruntime",
    }
    return models.NewRevision(**(facts | changes))  # type: ignore[arg-type]


@pytest.fixture
def revision(database: Database) -> Revision:
    """Revision 1 of the model `resnet`."""
    with database.writing() as session:
        return models.register(session, "resnet", new_revision())[0]


@pytest.fixture
def submit(database: Database, revision: Revision) -> Callable[..., Job]:
    """Queues a job that makes the variant `label` of `resnet`."""

    def submitted(session: Session, label: str = "dynamic") -> Job:
        model = models.find(session, "resnet", for_update=True)
        return jobs.submit(
            session,
            model=model,
            revision=models.find_revision(session, model),
            method=methods.find("dynamic"),
            options={},
            dataset=None,
            label=label,
        )

    return submitted
