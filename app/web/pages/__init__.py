"""The dashboard: one module a page."""

from app.web.answers import page_routes
from app.web.pages import datasets, jobs, model, models

routes = page_routes()
for each in (models, model, jobs, datasets):
    routes.include_router(each.routes)
