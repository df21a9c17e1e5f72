"""The dashboard: one module a page."""

from app.web.answers import page_routes
from app.web.pages import models

routes = page_routes()
for each in (models,):
    routes.include_router(each.routes)
