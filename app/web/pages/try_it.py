"""`/models/{model}/try`: the same input to two variants, side by side."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from app.engines.engine import OIP_NAMES
from app.errors import Invalid
from app.intake.dataset_file import open_dataset
from app.registry import comparison, datasets, models, variants
from app.registry.comparison import Row
from app.registry.recommendation import recommendation
from app.registry.tables import Dataset, Revision
from app.web.answers import page, page_routes, provided

routes = page_routes()


class Tensor(BaseModel):
    """`planes` is the axis of the channels where it may be an image, None where it cannot."""

    name: str
    datatype: str
    shape: list[int]
    planes: int | None = None


class Tried(BaseModel):
    """What the page's script needs to know of a model."""

    model: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    class_names: list[str] | None


@routes.get("/models/{model}/try")
def show(
    model: str,
    request: Request,
    revision: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    variant: Annotated[str, Query(max_length=63)] = "",
) -> Response:
    """`variant` is what the original is compared with, unless another is chosen."""
    with provided(request).database.reading() as session:
        found = models.find(session, model)
        shown = models.find_revision(session, found, revision)
        rows = [row for row in comparison.compared(found, variants.listed(session, found)) if _serves(row, shown)]
        fitting = [each for each in datasets.listed(session) if _fits(each, shown)]
        return page(
            "pages/try.html",
            place="Models",
            model=model,
            revision=shown.number,
            is_newest=shown.number == max(each.number for each in found.revisions),
            rows=rows,
            first=rows[0],
            second=_second(rows, variant),
            tried=_tried(model, shown),
            datasets=[{"name": each.name, "samples": each.samples} for each in fitting],
        )


def _serves(row: Row, revision: Revision) -> bool:
    return row.revision == revision.number and row.may_serve


def _second(rows: Sequence[Row], wanted: str) -> Row:
    """The variant asked for, else the default, else the one recommended, else any that is not the first."""
    others = rows[1:] or rows
    found = recommendation(rows)
    chosen = [row for row in others if row.variant == wanted] + [row for row in others if row.default]
    return (chosen + ([found.row] if found else []) + [*others])[0]


def _fits(dataset: Dataset, revision: Revision) -> bool:
    arrays = {array["name"]: array for array in dataset.arrays}
    return all(spec["name"] in arrays for spec in revision.inputs)


def _tried(model: str, revision: Revision) -> Tried:
    return Tried(
        model=model,
        inputs=[Tensor(**_named(spec), planes=_planes(spec)) for spec in revision.inputs],
        outputs=[Tensor(**_named(spec)) for spec in revision.outputs],
        class_names=revision.class_names,
    )


def _named(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: spec[key] for key in ("name", "datatype", "shape")}


def _planes(spec: dict[str, Any]) -> int | None:
    if len(spec["shape"]) != 4 or spec["datatype"] not in {"FP32", "FP16", "UINT8"}:
        return None
    return next((axis for axis in (1, 3) if spec["shape"][axis] in {1, 3}), None)


@routes.get("/models/{model}/try/sample")
def sample(
    model: str, request: Request, dataset: Annotated[str, Query(max_length=63)], index: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """One sample: of each array its datatype, its shape, and its bytes in base64, little-endian; and its label."""
    services = provided(request)
    with services.database.reading() as session:
        models.find(session, model)
        found = datasets.find(session, dataset)
        digest, count = found.digest, found.samples
    if index >= count:
        raise Invalid(f"dataset '{dataset}' has {count} samples, 0 to {count - 1}; there is no {index}", field="index")
    with services.blobs.materialize(digest) as path:
        samples = open_dataset(path)
        arrays = {name: np.array(array[index : index + 1]) for name, array in samples.arrays.items()}
        label = int(samples.labels[index]) if samples.labels is not None else None
    return JSONResponse(
        {
            "arrays": {
                name: {
                    "datatype": OIP_NAMES[array.dtype],
                    "shape": list(array.shape),
                    "data": base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode(),
                }
                for name, array in arrays.items()
            },
            "label": label,
        }
    )
