"""The dashboard: one module a page."""

from app.web.answers import page_routes
from app.web.pages import datasets, experiments, jobs, model, models, system, try_it

routes = page_routes()
for each in (models, model, jobs, datasets, experiments, system, try_it):
    routes.include_router(each.routes)
