"""The page at `/docs`: Swagger UI, with nothing from beyond this server, and no script but its files."""

from fastapi.responses import Response

from app.web.answers import page, page_routes

routes = page_routes()


@routes.get("/docs")
def docs() -> Response:
    return page("pages/swagger.html", place="API")
