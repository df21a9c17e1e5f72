"""The Celery application that `celery -A worker.celery_app worker` runs."""

from celery import Celery

from app.settings import Settings

settings = Settings()
settings.make_folders()

app = Celery("octet", include=["worker.tasks"])
app.conf.update(settings.celery)
