"""What stands in the paths and headers of `/api/v1`, described once.

Examples are of `octet demo`, so that a call can be tried as it stands. Those of calls that delete are of what the
examples of other calls make: trying one costs the demo nothing. Ids have none, since nobody knows them beforehand.
"""

from typing import Annotated

from fastapi import Header, Path

_MODEL = "The name of a model. `GET /api/v1/models` lists all."
_DATASET = "The name of a dataset. `GET /api/v1/datasets` lists all."
_VARIANT = (
    "A variant's label, such as `int8` (of the newest revision that has it), or its version, such as `4`."
    " `GET /api/v1/models/{model}/variants` lists all."
)

ModelName = Annotated[str, Path(description=_MODEL, examples=["resnet20"])]
DeletedModel = Annotated[str, Path(description=_MODEL, examples=["my-model"])]
DatasetName = Annotated[str, Path(description=_DATASET, examples=["cifar10"])]
DeletedDataset = Annotated[str, Path(description=_DATASET, examples=["my-samples"])]
VariantName = Annotated[str, Path(description=_VARIANT, examples=["int8"])]
DeletedVariant = Annotated[str, Path(description=_VARIANT, examples=["my-int8"])]
RevisionNumber = Annotated[
    int, Path(ge=1, le=2**31 - 1, description="Counts the uploads under one name, from 1.", examples=[1])
]
JobId = Annotated[
    str, Path(description="The `id` in the answer of `POST /api/v1/jobs`. `GET /api/v1/jobs` lists all jobs.")
]
ExperimentId = Annotated[
    str,
    Path(
        description="The `id` in the answer that set the experiment up."
        " `GET /api/v1/models/{model}/experiments` lists all of a model."
    ),
]

KeyId = Annotated[str, Path(description="The `id` of a key. `GET /api/v1/keys` lists all.")]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text, new for each thing that you want done. A request that is sent again with the same key"
        " is not done twice; another request with it is refused.",
    ),
]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="Go on after this event: its `id`. Default: from the first on. Browsers send it by themselves.",
    ),
]
