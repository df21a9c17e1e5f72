"""`/api/v1/datasets`"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile
from pydantic import BaseModel

from app.api.parameters import DatasetName, DeletedDataset
from app.api.services import Provided
from app.api.uploads import received
from app.intake import dataset_formats
from app.intake.artifacts import Limits
from app.intake.deposit import deposit, discard
from app.intake.registration import register_dataset
from app.intake.sandbox import inspect_dataset
from app.registry import datasets
from app.registry.database import NOTHING
from app.registry.names import checked as checked_name
from app.registry.tables import Dataset

routes = APIRouter(prefix="/datasets", tags=["datasets"])


class ArrayView(BaseModel):
    """One array; the first axis of `shape` is the samples'."""

    name: str
    dtype: str
    shape: list[int]


class DatasetView(BaseModel):
    """A dataset as it is kept; `digest` and `size_bytes` are of its canonical form."""

    name: str
    samples: int
    arrays: list[ArrayView]
    labelled: bool
    class_names: list[str] | None
    digest: str
    size_bytes: int
    created_at: datetime

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetView":
        return cls(
            name=dataset.name,
            samples=dataset.samples,
            arrays=[ArrayView(**array) for array in dataset.arrays],
            labelled=dataset.labelled,
            class_names=dataset.class_names,
            digest=dataset.digest,
            size_bytes=dataset.size_bytes,
            created_at=dataset.created_at,
        )


@routes.post(
    "",
    status_code=201,
    operation_id="upload_dataset",
    summary="Upload a dataset",
    responses={
        200: {"model": DatasetView, "description": "This content was uploaded before under this name."},
        201: {"description": "A new dataset."},
        409: {"description": "Another dataset has this name."},
        413: {"description": "The file is larger than `OCTET_MAX_UPLOAD_BYTES`, or unpacks to more than is allowed."},
        507: {"description": "The disk that holds uploads is full."},
    },
)
def create(
    response: Response,
    services: Provided,
    file: Annotated[
        UploadFile,
        File(
            description=" · ".join(
                f"{', '.join(f'`{ending}`' for ending in endings)}: {content}"
                for endings, content in dataset_formats.described()
            )
        ),
    ],
    name: Annotated[str, Form(description="The dataset's name.", examples=["my-samples"])],
    preprocess: Annotated[
        str,
        Form(
            description="JSON: how images or columns become arrays, such as"
            ' `{"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]}`. Empty: as they are.'
        ),
    ] = "",
) -> DatasetView:
    """Choose a file of samples: what the model will be asked, with the right answers if they are known.

    Half of them at most calibrate quantized variants, the others judge them; 200 are enough to begin with. Jobs then
    name the dataset by its `name`.
    """
    checked_name("name", name)
    limits = Limits(services.settings.inspection_seconds, services.settings.max_unpacked_bytes)
    with received(file, services.settings.scratch_folder) as (source, folder):
        checked = inspect_dataset(source, file.filename or "", folder, limits, preprocess or None)
        with deposit(services.database, services.blobs, {checked.digest: checked.path}, changes=NOTHING) as session:
            dataset, is_new = register_dataset(session, name, checked)
            view = DatasetView.of(dataset)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/api/v1/datasets/{name}"
    return view


@routes.get("", operation_id="list_datasets", summary="All datasets")
def index(services: Provided) -> list[DatasetView]:
    """With their arrays, and whether they hold labels."""
    with services.database.reading() as session:
        return [DatasetView.of(dataset) for dataset in datasets.listed(session)]


@routes.get(
    "/{dataset}",
    operation_id="get_dataset",
    summary="One dataset",
    responses={404: {"description": "There is no such dataset."}},
)
def show(dataset: DatasetName, services: Provided) -> DatasetView:
    """Its arrays, which fit a model when they have the names and shapes of its inputs, and names of its classes."""
    with services.database.reading() as session:
        return DatasetView.of(datasets.find(session, dataset))


@routes.delete(
    "/{dataset}",
    status_code=204,
    operation_id="delete_dataset",
    summary="Delete a dataset",
    responses={
        204: {"description": "It is gone."},
        404: {"description": "There is no such dataset."},
        409: {"description": "A job that needs it has not ended."},
    },
)
def delete(dataset: DeletedDataset, services: Provided) -> None:
    """Variants made with it stay. Refused while a job that needs it has not ended."""
    with services.database.writing(changes=NOTHING) as session:
        digest = datasets.delete(session, dataset)
    discard(services.database, services.blobs, [digest])
