"""`/datasets`: what calibrates and evaluates, and uploading more of it."""

from fastapi import Request
from fastapi.responses import Response

from app.intake import dataset_formats
from app.registry import datasets
from app.web.answers import page, page_routes, provided

routes = page_routes()


@routes.get("/datasets")
def index(request: Request) -> Response:
    with provided(request).database.reading() as session:
        listed = datasets.listed(session)
    return page(
        "pages/datasets.html",
        place="Datasets",
        datasets=listed,
        accept=",".join(dataset_formats.endings()),
        formats="; ".join(f"{', '.join(endings)}: {content}" for endings, content in dataset_formats.described()),
    )
