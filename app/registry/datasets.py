"""Datasets: what calibrates and evaluates."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import Conflict, UnknownDataset
from app.registry import audit, calibrations
from app.registry.names import checked, is_valid
from app.registry.tables import Dataset, Job, Json


@dataclass(frozen=True)
class NewDataset:
    """What intake found out about an uploaded dataset; `digest` is that of the canonical file."""

    digest: str
    size_bytes: int
    samples: int
    arrays: list[Json]
    labelled: bool
    class_names: list[str] | None


def find(session: Session, name: str) -> Dataset:
    """The dataset called `name`; raises `UnknownDataset`."""
    dataset = session.scalar(select(Dataset).where(Dataset.name == name)) if is_valid(name) else None
    if dataset is None:
        raise UnknownDataset(name[:80])
    return dataset


def listed(session: Session) -> list[Dataset]:
    return list(session.scalars(select(Dataset).order_by(Dataset.name)))


def register(session: Session, name: str, new: NewDataset) -> tuple[Dataset, bool]:
    """Add a dataset; returns it and whether it is new. The same content again gives the one that exists.

    Raises `Conflict` when the name stands for other content: reports refer to it, so it cannot change.
    To be called under `database.lock_blobs`, which also keeps two uploads of one name apart.
    """
    dataset = session.scalar(select(Dataset).where(Dataset.name == checked("name", name)))
    if dataset is not None:
        if dataset.digest != new.digest:
            raise Conflict(
                f"dataset '{name}' exists with other content; delete it first or choose another name",
                field="name",
            )
        return dataset, False
    dataset = Dataset(name=name, **vars(new))
    session.add(dataset)
    session.flush()
    audit.record(session, "uploaded", "dataset", name)
    return dataset, True


def delete(session: Session, name: str) -> str:
    """Remove the dataset; returns its blob's digest. Raises `Conflict` while a job needs it."""
    dataset = find(session, name)
    live = session.scalar(
        select(Job.id).where(Job.dataset_id == dataset.id, Job.state.in_(("queued", "running"))).limit(1)
    )
    if live is not None:
        raise Conflict(f"dataset '{name}' is used by a job that has not ended: cancel job {live} or wait for it")
    digest = dataset.digest
    session.delete(dataset)
    session.flush()
    calibrations.forget_dataset(session, digest)
    audit.record(session, "deleted", "dataset", name)
    return digest
