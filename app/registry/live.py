"""What a model, a variant or an experiment may not do while an experiment is live: running, or paused."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import Conflict
from app.registry.tables import Experiment, Model, Variant

LIVE = ("running", "paused")


def experiment_of(session: Session, model: Model) -> Experiment | None:
    """The one experiment of `model` that is live, if there is one."""
    return session.scalar(select(Experiment).where(Experiment.model_id == model.id, Experiment.state.in_(LIVE)))


def check_none(session: Session, model: Model, *, to: str) -> None:
    """Raises `Conflict` while one is live, naming it and what is refused: `to` is words such as "delete it"."""
    live = experiment_of(session, model)
    if live is not None:
        raise Conflict(
            f"experiment '{live.name}' ({live.id}) of '{model.name}' is {live.state}; to {to},"
            f" POST /api/v1/models/{model.name}/experiments/{live.id}/stop first",
            field="model",
        )


def check_not_used(session: Session, model: Model, variant: Variant, *, to: str) -> None:
    """Raises `Conflict` while `variant` is an arm or a shadow of a live one."""
    live = experiment_of(session, model)
    if live is not None and variant.version in {each["version"] for each in (*live.arms, *live.shadow)}:
        check_none(session, model, to=to)
