"""The SQL truth: models, datasets, jobs, variants and their evaluations."""

from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.registry.database import Database, is_full

__all__ = ["Database", "DatabaseError", "IntegrityError", "OperationalError", "Session", "is_full"]
