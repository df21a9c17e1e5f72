"""`/api/v1/models/{model}/variants`"""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel

from app.api import downloads, layer_table
from app.api.downloads import Download
from app.api.parameters import DeletedVariant, ModelName, VariantName
from app.api.services import Provided, Services
from app.errors import MissingBlob, NotFound
from app.intake.deposit import discard
from app.registry import Session, comparison, evaluations, models, variants
from app.registry.tables import Model, Variant

routes = APIRouter(prefix="/models/{model}/variants", tags=["variants"])

_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", **_BYTES},
    206: {"description": "The part of it that `Range` asks for.", **_BYTES},
    304: {"description": "It is what `If-None-Match` says."},
    416: {"description": "It has no such range."},
}


class FileView(BaseModel):
    """A file of the artifact; a model over the size of a protobuf has its weights in a second one."""

    name: str
    digest: str
    url: str


class VariantView(comparison.Row):
    """A row of the comparison. Ratios and speedup are against the original; null is what was not measured."""

    files: list[FileView]


class VariantDetail(VariantView):
    """The row, with the options that made the variant."""

    options: dict[str, Any]


class ReportView(BaseModel):
    """The variant, and all that was measured of it; what `report` holds depends on the method."""

    model: str
    variant: VariantDetail
    report: dict[str, Any]


def _files(model: Model, variant: Variant) -> list[FileView]:
    url = f"/api/v1/models/{model.name}/variants/{variant.version}/artifact"
    files = [FileView(name=f"{model.name}-{variant.label}.onnx", digest=variant.digest, url=url)]
    if variant.data_digest is not None and variant.data_name is not None:
        files.append(FileView(name=variant.data_name, digest=variant.data_digest, url=f"{url}/data"))
    return files


def _find(session: Session, model: str, variant: str) -> tuple[Model, Variant]:
    found = models.find(session, model)
    return found, variants.find(session, found, variant)


@routes.get(
    "",
    operation_id="compare_variants",
    summary="Compare a model's variants",
    responses={404: {"description": "There is no such model."}},
)
def index(model: ModelName, services: Provided) -> list[VariantView]:
    """One row a variant: size, accuracy, agreement with the original, latency, speedup. What the table of the dashboard
    and of `octet compare` shows; figures are there once a job with a dataset has ended.
    """
    with services.database.reading() as session:
        found = models.find(session, model)
        listed = variants.listed(session, found)
        rows = zip(comparison.compared(found, listed), listed, strict=True)
        return [VariantView(**row.model_dump(), files=_files(found, variant)) for row, variant in rows]


@routes.get(
    "/{variant}",
    operation_id="get_variant",
    summary="One variant",
    responses={404: {"description": "There is no such model, or it has no such variant."}},
)
def show(model: ModelName, variant: VariantName, services: Provided) -> VariantDetail:
    """Its row of the comparison, with the options that made it and links to its files."""
    with services.database.reading() as session:
        return _detail(session, *_find(session, model, variant))


def _detail(session: Session, model: Model, variant: Variant) -> VariantDetail:
    row = comparison.one(session, model, variant)
    return VariantDetail(**row.model_dump(), files=_files(model, variant), options=variant.options)


class Form(StrEnum):
    """How a report is written."""

    json = "json"
    html = "html"
    csv = "csv"


_MEDIA_TYPES = {"application/json": Form.json, "text/html": Form.html, "text/csv": Form.csv}


@routes.get(
    "/{variant}/report",
    operation_id="get_report",
    summary="A variant's evaluation report",
    response_class=Response,
    responses={
        200: {
            "description": "JSON; a page that holds all it needs, under `Accept: text/html`; or the table of layers,"
            " under `Accept: text/csv`.",
            "model": ReportView,
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}, "example": layer_table.EXAMPLE},
            },
        },
        404: {"description": "There is no such model or variant, or it was not evaluated yet."},
    },
)
def report(
    model: ModelName,
    variant: VariantName,
    request: Request,
    services: Provided,
    form: Annotated[
        Form | None, Query(alias="format", description="Instead of `Accept`, which links cannot send.")
    ] = None,
) -> Response:
    """Everything that was measured, layer by layer, and what it takes to repeat it.

    The media type chooses its form: under `text/html` it comes as a page to be looked at, under `text/csv` as the table
    of layers, else as JSON.
    """
    with services.database.reading() as session:
        found, row = _find(session, model, variant)
        figures = row.evaluation
        if figures is None:
            raise NotFound(f"variant '{row.label}' was not evaluated yet: the first job on its revision does that")
        content = evaluations.whole_report(figures)
        view = _detail(session, found, row).model_dump(mode="json")
    varies = {"Vary": "Accept"}
    match form or _preferred(request.headers.get("Accept", "")):
        case Form.html:
            page, headers = services.render_report(model, view, content)
            return HTMLResponse(page, headers={**headers, **varies})
        case Form.csv:
            name = f'attachment; filename="{model}-{view["variant"]}-layers.csv"'
            table = layer_table.as_csv(content["layers"])
            return Response(table, media_type="text/csv", headers={"Content-Disposition": name, **varies})
        case _:
            return JSONResponse({"model": model, "variant": view, "report": content}, headers=varies)


def _preferred(accept: str) -> Form:
    """The form that is asked for first."""
    asked = (_MEDIA_TYPES.get(part.partition(";")[0].strip().lower()) for part in accept.split(","))
    return next((form for form in asked if form is not None), Form.json)


@routes.get(
    "/{variant}/artifact",
    operation_id="download_variant",
    summary="Download a variant",
    response_class=Response,
    responses=_FILE | {404: {"description": "There is no such model, or it has no such variant."}},
)
def artifact(model: ModelName, variant: VariantName, request: Request, services: Provided) -> Response:
    """The ONNX file, which any ONNX runtime runs. `ETag` is its sha256; ranges are served."""
    with services.database.reading() as session:
        found, row = _find(session, model, variant)
        file = _files(found, row)[0]
    return _download(services, request, file, row)


@routes.get(
    "/{variant}/artifact/data",
    operation_id="download_variant_data",
    summary="Download a variant's external data",
    response_class=Response,
    responses=_FILE
    | {404: {"description": "There is no such model or variant, or all that it has is in its ONNX file."}},
)
def artifact_data(model: ModelName, variant: VariantName, request: Request, services: Provided) -> Response:
    """The weights of a variant too large for one file (2 GB); to be kept beside it under the name it comes with.

    Most variants have none, and answer 404: `files` of the variant says what there is.
    """
    with services.database.reading() as session:
        found, row = _find(session, model, variant)
        files = _files(found, row)
    if len(files) < 2:
        raise NotFound(f"variant '{row.label}' has no external data: its ONNX file holds everything")
    return _download(services, request, files[1], row)


def _download(services: Services, request: Request, file: FileView, variant: Variant) -> Response:
    try:
        return downloads.response(request, services.blobs, Download(file.digest, file.name, variant.created_at))
    except MissingBlob as error:
        raise NotFound("the variant was deleted meanwhile") from error


@routes.put(
    "/{variant}/override",
    operation_id="override_verdict",
    summary="Let a rejected variant serve",
    responses={404: {"description": "There is no such model, or it has no such variant."}},
)
def override(model: ModelName, variant: VariantName, services: Provided) -> VariantDetail:
    """A variant that broke its job's budget of accuracy or speed answers nothing until somebody decides that it may.

    The verdict and its reasons stay; doing it twice, or to a variant that may serve anyway, changes nothing.
    """
    with services.database.writing(changes=model) as session:
        found, row = _find(session, model, variant)
        variants.override(row)
        return _detail(session, found, row)


@routes.delete(
    "/{variant}/override",
    operation_id="take_back_override",
    summary="Have the verdict hold again",
    responses={
        404: {"description": "There is no such model, or it has no such variant."},
        409: {"description": "It is the default, or in an experiment that runs or is paused."},
    },
)
def take_back_override(model: ModelName, variant: VariantName, services: Provided) -> VariantDetail:
    """Takes an override back. Refused for the default, and for one in an experiment that runs or is paused."""
    with services.database.writing(changes=model) as session:
        found = models.find(session, model, for_update=True)
        row = variants.find(session, found, variant)
        variants.take_back_override(session, found, row)
        return _detail(session, found, row)


@routes.delete(
    "/{variant}",
    status_code=204,
    operation_id="delete_variant",
    summary="Delete a variant",
    responses={
        204: {"description": "It is gone."},
        404: {"description": "There is no such model, or it has no such variant."},
        409: {"description": "It is the default, the original, or in an experiment that runs or is paused."},
    },
)
def delete(model: ModelName, variant: DeletedVariant, services: Provided) -> None:
    """Its file goes too. Refused for the default, the original, and one in an experiment that runs or is paused."""
    with services.database.writing(changes=model) as session:
        found = models.find(session, model, for_update=True)
        digests = variants.delete(session, found, variants.find(session, found, variant))
    services.pool.forget(set(digests))
    discard(services.database, services.blobs, digests)
