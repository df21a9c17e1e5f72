"""`/api/v1/models`"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.api.bodies import Strict
from app.api.jobs import JobView
from app.api.parameters import DeletedModel, ModelName, RevisionNumber
from app.api.services import Provided
from app.api.uploads import received
from app.contracts import methods
from app.contracts.operators import quantized_operators
from app.errors import Invalid
from app.intake.artifacts import Limits
from app.intake.deposit import deposit, discard
from app.intake.registration import register_model
from app.intake.sandbox import inspect_model
from app.intake.submission import submit_missing
from app.registry import Session, datasets, jobs, models, variants
from app.registry.tables import Job, Model, Revision, Variant
from app.serving import defaults

routes = APIRouter(prefix="/models", tags=["models"])


class TensorView(BaseModel):
    """`shape` has -1 for a dynamic axis."""

    name: str
    datatype: str
    shape: list[int]


class ModelView(BaseModel):
    """One revision of a model, and what answers when a client names no variant."""

    name: str
    revision: int
    digest: str
    size_bytes: int
    opset: int
    inputs: list[TensorView]
    outputs: list[TensorView]
    quantized: bool = Field(
        description="The upload holds Q/DQ or integer operators: it is served and evaluated as it is, and methods that"
        " start from FP32 refuse it."
    )
    labels: list[str] | None
    default_variant: str
    default_version: int
    jobs: list[JobView]
    created_at: datetime

    @classmethod
    def of(cls, session: Session, model: Model, revision: Revision) -> "ModelView":
        """The view of one model, with what the registry says of it."""
        return cls.made(model, revision, variants.default_of(session, model), jobs.of_revision(session, revision))

    @classmethod
    def made(cls, model: Model, revision: Revision, default: Variant, its_jobs: Sequence[Job]) -> "ModelView":
        """The view made of what was read already."""
        return cls(
            name=model.name,
            revision=revision.number,
            digest=revision.digest,
            size_bytes=revision.size_bytes,
            opset=revision.opset,
            inputs=[TensorView(**spec) for spec in revision.inputs],
            outputs=[TensorView(**spec) for spec in revision.outputs],
            quantized=bool(quantized_operators(revision.operators)),
            labels=revision.class_names,
            default_variant=default.label,
            default_version=default.version,
            jobs=[JobView.of(job) for job in its_jobs],
            created_at=revision.created_at,
        )


class DefaultRequest(Strict):
    """A variant's label, or its integer version; `override` lets a rejected one serve."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"variant": "int8"}]})

    variant: str = Field(description="Label or version.")
    override: bool = Field(default=False, description="Even if it was rejected: it serves from now on.")


class DefaultView(BaseModel):
    """What answers when a client names no variant."""

    model: str = Field(examples=["resnet20"])
    variant: str = Field(examples=["int8"])
    version: int = Field(examples=[4])


@routes.post(
    "",
    status_code=201,
    operation_id="upload_model",
    summary="Upload a model",
    responses={
        200: {"model": ModelView, "description": "These bytes were uploaded before; nothing new was made."},
        201: {"description": "A new model, or a new revision of one."},
        404: {"description": "There is no such dataset."},
        409: {"description": "Method 'int8' starts from FP32, and the upload is quantized already."},
        413: {"description": "The file is larger than `OCTET_MAX_UPLOAD_BYTES`, or unpacks to more than is allowed."},
        507: {"description": "The disk that holds uploads is full."},
    },
)
def create(
    response: Response,
    services: Provided,
    file: Annotated[UploadFile, File(description="`.onnx`, or `.zip`/`.tar` of one `.onnx` and its external data.")],
    name: Annotated[
        str, Form(description="The model's name; an existing one gets a new revision.", examples=["my-model"])
    ],
    # Swagger UI fills a form with defaults: an empty text is one that can be sent as it stands.
    dataset: Annotated[str, Form(description="A dataset for the jobs of `quantize`, such as `cifar10`.")] = "",
    quantize: Annotated[
        str, Form(description="Methods, separated by commas: `fp16,dynamic,int8`. Each becomes a job.")
    ] = "",
    labels: Annotated[str, Form(description='JSON list of class names, such as `["cat", "dog"]`.')] = "",
) -> ModelView:
    """Choose an ONNX file and give it a name. It is checked in a process of its own, and served at once as the variant
    `original`, at `/v2/models/{name}/infer`.

    With `quantize`, jobs that make smaller and faster variants are queued with it or not at all: the answer lists them
    under `jobs`. The same bytes again make nothing new; other bytes under the same name are its next revision.
    """
    models.checked_name(name)
    wanted = [methods.find(word.strip()) for word in quantize.split(",") if word.strip()]
    class_names = _checked_labels(labels)
    if dataset:
        with services.database.reading() as session:
            datasets.find(session, dataset)
    engine = services.settings.engine
    limits = Limits(services.settings.inspection_seconds, services.settings.max_unpacked_bytes)
    with received(file, services.settings.scratch_folder) as (source, folder):
        checked = inspect_model(source, file.filename or "", folder, limits, engine=engine)
        with deposit(services.database, services.blobs, checked.files, changes=name) as session:
            revision, is_new = register_model(session, name, checked, class_names=class_names, engine=engine)
            submit_missing(session, revision, wanted, dataset or None)
            view = ModelView.of(session, revision.model, revision)
    services.outbox.announce()
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/api/v1/models/{name}"
    return view


_LABELS = TypeAdapter(list[str])


def _checked_labels(labels: str) -> list[str] | None:
    if not labels.strip():
        return None
    try:
        return _LABELS.validate_json(labels, strict=True)
    except ValidationError as error:
        raise Invalid(
            f'\'labels\' must be a JSON list of class names, such as ["cat", "dog"]: {error.errors()[0]["msg"]}',
            field="labels",
        ) from error


@routes.get("", operation_id="list_models", summary="All models")
def index(services: Provided) -> list[ModelView]:
    """The newest revision of each: its inputs and outputs, what answers by default, and its jobs."""
    with services.database.reading() as session:
        newest = models.newest(session)
        jobs_of = jobs.of_revisions(session, [revision.id for _, revision in newest])
        return [
            ModelView.made(
                model,
                revision,
                model.default_variant or variants.default_of(session, model),
                jobs_of[revision.id],
            )
            for model, revision in newest
        ]


@routes.get(
    "/{model}",
    operation_id="get_model",
    summary="One model",
    responses={404: {"description": "There is no such model."}},
)
def show(model: ModelName, services: Provided) -> ModelView:
    """Its newest revision: inputs and outputs with their shapes, class names, what answers by default, and jobs."""
    with services.database.reading() as session:
        found = models.find(session, model)
        return ModelView.of(session, found, models.find_revision(session, found))


@routes.get(
    "/{model}/revisions/{number}",
    operation_id="get_revision",
    summary="One revision of a model",
    responses={404: {"description": "There is no such model, or it has no such revision."}},
)
def show_revision(model: ModelName, number: RevisionNumber, services: Provided) -> ModelView:
    """As it was uploaded then. Its variants stay when newer revisions come."""
    with services.database.reading() as session:
        found = models.find(session, model)
        return ModelView.of(session, found, models.find_revision(session, found, number))


@routes.delete(
    "/{model}",
    status_code=204,
    operation_id="delete_model",
    summary="Delete a model",
    responses={
        204: {"description": "It is gone."},
        404: {"description": "There is no such model."},
        409: {"description": "A job of it has not ended, or an experiment runs or is paused."},
    },
)
def delete(model: DeletedModel, services: Provided) -> None:
    """With all its revisions, variants and ended jobs. Refused while a job of it has not ended, or an
    experiment runs or is paused.
    """
    with services.database.writing(changes=model) as session:
        digests = models.delete(session, model)
    services.pool.forget(set(digests))
    discard(services.database, services.blobs, digests)


@routes.put(
    "/{model}/default",
    operation_id="set_default",
    summary="Choose what answers when a client names no variant",
    responses={
        404: {"description": "There is no such model, or it has no such variant."},
        409: {"description": "The variant was rejected: it serves by `override` alone."},
    },
)
def set_default(model: ModelName, wanted: DefaultRequest, services: Provided) -> DefaultView:
    """The variant is loaded before it is switched to, so that no request waits or fails.

    A rejected one is refused unless `override` is true.
    """
    chosen = defaults.set_default(services.database, services.pool, model, wanted.variant, override=wanted.override)
    return DefaultView(model=model, variant=chosen.label, version=chosen.version)
