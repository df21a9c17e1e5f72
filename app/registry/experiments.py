"""Experiments: their states, and who may change them. What was counted and reported is in `records`.

    draft ── start ──> running <── start, pause ──> paused
                          └── stop | rollback | promote ──┘──> stopped, rolled_back, promoted

Changes lock the model's row first, so that those of one model, its deletion included, come one after the other. A
change that named an idempotency key is made once; the same key again finds the experiment as it stands.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session, joinedload

from app.caller import CALLER
from app.errors import Conflict, Invalid, PreconditionFailed, UnknownExperiment
from app.registry import audit, live, models, names, variants
from app.registry.tables import Experiment, ExperimentEvent, Json, Model, Revision, Variant, now

FINAL = ("stopped", "rolled_back", "promoted")

#: Who asks for a change, where nothing else is said.
REQUEST = "request"

#: So long after the end of an experiment, requests that it answered may still be on their way to the registry.
_JUST_ENDED = timedelta(minutes=1)


@dataclass(frozen=True)
class Key:
    """An idempotency key, and the fingerprint of the request that brought it."""

    text: str
    fingerprint: str


@dataclass(frozen=True)
class NewExperiment:
    """What an experiment is to be; its values were checked, its variants are looked up here.

    Attributes:
        arms: {variant, weight, control} each, the variant by label or version.
        shadow: {variant, sample} each.
        coverage: with a `ramp`, which has {steps, hold_s, min_units}, where it begins.
    """

    name: str
    seed: str
    unit: Json
    arms: Sequence[Json]
    coverage: float
    shadow: Sequence[Json]
    ramp: Json | None
    guardrails: Sequence[Json]
    alpha: float
    auto_rollback: bool


def created_by(session: Session, model: Model, key: Key) -> Experiment | None:
    """The experiment of `model` that the request with `key` made; raises `Invalid` where that was another request."""
    made = (
        select(Experiment)
        .join(ExperimentEvent, ExperimentEvent.experiment_id == Experiment.id)
        .where(Experiment.model_id == model.id, ExperimentEvent.kind == "created", ExperimentEvent.key == key.text)
        .options(joinedload(Experiment.model), joinedload(Experiment.revision))
    )
    known = session.scalar(made)
    if known is not None:
        _repeated(session, known, key)
    return known


def create(session: Session, model: Model, new: NewExperiment, *, key: Key | None = None) -> Experiment:
    """A draft, which changes nothing that is served until it is started.

    Its variants are those of the newest revision that has them all. Raises `UnknownVariant`, `Invalid` where no
    revision has them all, and `Rejected` for one that may not serve.
    """
    if not new.arms:
        raise Invalid("an experiment needs two arms or more, and this one has none", field="arms")
    found = _resolve(session, model, [each["variant"] for each in (*new.arms, *new.shadow)])
    for variant in found.values():
        variants.check_serves(model, variant)
    experiment = Experiment(
        id=uuid.uuid4().hex,
        model=model,
        revision=next(iter(found.values())).revision,
        name=names.checked("name", new.name),
        seed=new.seed,
        state="draft",
        unit=new.unit,
        arms=[{**each, **_named(found[each["variant"]]), "stopped": False} for each in new.arms],
        coverage=new.coverage,
        shadow=[{**each, **_named(found[each["variant"]])} for each in new.shadow],
        ramp=new.ramp,
        guardrails=list(new.guardrails),
        alpha=new.alpha,
        auto_rollback=new.auto_rollback,
        step=_step(new.ramp, new.coverage),
        etag=1,
    )
    for noun, rows in (("arm", experiment.arms), ("shadow", experiment.shadow)):
        labels = [row["variant"] for row in rows]
        if len(set(labels)) < len(labels):
            raise Invalid(f"each {noun} of an experiment needs a variant of its own", field=_FIELDS[noun])
    session.add(experiment)
    session.flush()
    _log(session, experiment, "created", {"by": REQUEST}, key)
    return experiment


_FIELDS = {"arm": "arms", "shadow": "shadow"}


def find(session: Session, experiment_id: str, model: Model | None = None) -> Experiment:
    """The experiment, with its model and revision.

    Raises `UnknownExperiment`, also for one of another model, or where the caller's key is for others.
    """
    options = [joinedload(Experiment.model), joinedload(Experiment.revision)]
    known = session.get(Experiment, experiment_id, options=options) if names.is_valid(experiment_id) else None
    hidden = known is None or not CALLER.get().may_use(known.model.name)
    if known is None or hidden or (model is not None and known.model_id != model.id):
        raise UnknownExperiment(experiment_id[:80])
    return known


def listed(session: Session, model: Model | None = None, *, limit: int | None = None) -> list[Experiment]:
    """The experiments of `model`, or of all that the caller's key is for, the newest first; `limit` of them at most."""
    query = (
        select(Experiment)
        .options(joinedload(Experiment.model), joinedload(Experiment.revision))
        .order_by(Experiment.created_at.desc(), Experiment.id)
    )
    if model is not None:
        query = query.where(Experiment.model_id == model.id)
    caller = CALLER.get()
    return list(islice((one for one in session.scalars(query) if caller.may_use(one.model.name)), limit))


def running_of(session: Session, model: Model) -> Experiment | None:
    """The experiment that splits the requests of `model` now. While it is paused there is none."""
    return session.scalar(select(Experiment).where(Experiment.model_id == model.id, Experiment.state == "running"))


def running(session: Session) -> list[Experiment]:
    """All that run now, of all models."""
    query = select(Experiment).where(Experiment.state == "running").options(joinedload(Experiment.model))
    return list(session.scalars(query.order_by(Experiment.id)))


def asked_variants(session: Session) -> list[Variant]:
    """Those that running experiments may ask: arms that are not stopped, and shadows."""
    found: list[Variant] = []
    for experiment in running(session):
        asked = (*(arm for arm in experiment.arms if not arm["stopped"]), *experiment.shadow)
        versions = [each["version"] for each in asked]
        query = select(Variant).where(Variant.model_id == experiment.model_id, Variant.version.in_(versions))
        found += session.scalars(query)
    return found


def live_ids(session: Session) -> list[str]:
    """Those that run or are paused, of all models that the caller's key is for."""
    return _ids(session, Experiment.state.in_(live.LIVE))


def just_live_ids(session: Session) -> list[str]:
    """As `live_ids`, and those that have ended so lately that not all their requests are known yet."""
    ended = Experiment.ended_at > now() - _JUST_ENDED
    return _ids(session, or_(Experiment.state.in_(live.LIVE), ended))


def _ids(session: Session, condition: ColumnElement[bool]) -> list[str]:
    query = select(Experiment.id, Model.name).join(Model, Model.id == Experiment.model_id).where(condition)
    caller = CALLER.get()
    return [experiment_id for experiment_id, model in session.execute(query) if caller.may_use(model)]


def classes_of(session: Session) -> dict[str, int]:
    """How many classes the models of experiments have that are not closed, where the names of these are known."""
    query = (
        select(Experiment.id, Revision.class_names)
        .join(Revision, Revision.id == Experiment.revision_id)
        .where(Experiment.closed_at.is_(None))
    )
    return {experiment_id: len(names) for experiment_id, names in session.execute(query) if names}


def unfinished(session: Session) -> list[Experiment]:
    """Those that have been started, and still take outcomes."""
    return list(
        session.scalars(
            select(Experiment)
            .where(Experiment.started_at.is_not(None), Experiment.closed_at.is_(None))
            .order_by(Experiment.id)
        )
    )


def start(session: Session, experiment_id: str, *, by: str = REQUEST, key: Key | None = None) -> Experiment:
    """From the commit on, requests that name no variant are split; a paused one goes on.

    Of several started at once on one model, one runs, and the others get `Conflict`, which names it. That is also
    raised unless it is a draft or paused, and where a variant of it is gone, was unloaded or may not serve.
    """
    experiment = _locked(session, experiment_id)
    if _repeated(session, experiment, key):
        return experiment
    _check_state(experiment, ("draft", "paused"), "start")
    other = live.experiment_of(session, experiment.model)
    if other is not None and other.id != experiment.id:
        live.check_none(session, experiment.model, to="start another")
    for each in (*experiment.arms, *experiment.shadow):
        _check_answers(session, experiment, each)
    resumed = experiment.state == "paused"
    experiment.state, experiment.step_at = "running", now()
    experiment.started_at = experiment.started_at or now()
    return _changed(session, experiment, "resumed" if resumed else "started", {"by": by}, key)


def pause(session: Session, experiment_id: str, *, by: str = REQUEST, key: Key | None = None) -> Experiment:
    """From the commit on, the default answers all; what was counted stays. Raises `Conflict` unless it is running."""
    experiment = _locked(session, experiment_id)
    if _repeated(session, experiment, key):
        return experiment
    _check_state(experiment, ("running",), "pause")
    experiment.state = "paused"
    return _changed(session, experiment, "paused", {"by": by}, key)


def stop(
    session: Session, experiment_id: str, *, reason: str | None = None, by: str = REQUEST, key: Key | None = None
) -> Experiment:
    """End it without a winner; the default answers all. Raises `Conflict` where it has ended."""
    experiment = _locked(session, experiment_id)
    if _repeated(session, experiment, key):
        return experiment
    _check_state(experiment, ("draft", *live.LIVE), "stop")
    experiment.state, experiment.ended_at = "stopped", now()
    return _changed(session, experiment, "stopped", {"by": by, "reason": reason}, key)


def rollback(
    session: Session,
    experiment_id: str,
    variant: str | None,
    reason: str,
    *,
    by: str = REQUEST,
    evidence: Json | None = None,
    key: Key | None = None,
) -> Experiment:
    """From the commit on the arm of `variant`, or each arm but the control where it is None, gets no unit.

    An arm that is stopped already stays so, and nothing is written: of several processes that see one guardrail
    broken, one writes the reason. Where no arm but the control is left, the experiment has ended as `rolled_back`.
    Raises `Conflict` unless it is live, and `Invalid` for the control and for what is no arm.
    """
    experiment = _locked(session, experiment_id)
    if _repeated(session, experiment, key):
        return experiment
    arms = [_arm(experiment, variant)] if variant is not None else list(experiment.arms)
    if variant is not None and arms[0]["control"]:
        raise Invalid(f"'{variant}' is the control, which has nothing to be rolled back to", field="variant")
    going = {each["variant"] for each in arms if not (each["control"] or each["stopped"])}
    if not going and experiment.state in (*live.LIVE, "rolled_back"):
        return experiment
    _check_state(experiment, live.LIVE, "roll back")
    experiment.arms = [{**each, "stopped": each["stopped"] or each["variant"] in going} for each in experiment.arms]
    if all(each["stopped"] for each in experiment.arms if not each["control"]):
        experiment.state, experiment.ended_at = "rolled_back", now()
    detail = {"by": by, "variants": sorted(going), "reason": reason, "evidence": evidence}
    return _changed(session, experiment, "rolled_back", detail, key)


def promote(
    session: Session,
    experiment_id: str,
    variant: str,
    *,
    refusal: str | None = None,
    by: str = REQUEST,
    key: Key | None = None,
) -> Experiment:
    """End it, and have `variant` answer all that name none: both from the same commit on.

    `refusal` says why what was counted is not to be trusted, where that is so. Raises `Conflict` with it, and for a
    draft, an experiment that was rolled back or promoted, and an arm that was stopped; `Invalid` for what is no arm;
    and `Rejected` for a variant that may not serve.
    """
    experiment = _locked(session, experiment_id)
    if _repeated(session, experiment, key):
        return experiment
    _check_state(experiment, (*live.LIVE, "stopped"), "promote from")
    arm = _arm(experiment, variant)
    if arm["stopped"]:
        raise Conflict(f"the arm '{arm['variant']}' was rolled back; the timeline says why", field="variant")
    if refusal is not None:
        raise Conflict(refusal)
    chosen = variants.find(session, experiment.model, str(arm["version"]))
    variants.check_serves(experiment.model, chosen)
    models.set_default(session, experiment.model, chosen)
    experiment.state, experiment.ended_at = "promoted", now()
    return _changed(session, experiment, "promoted", {"by": by, "variant": chosen.label}, key)


def change(
    session: Session,
    experiment_id: str,
    *,
    etag: int | None,
    weights: Mapping[str, float] | None = None,
    coverage: float | None = None,
    by: str = REQUEST,
) -> Experiment:
    """Give arms other weights, or the experiment another coverage; the values were checked.

    Of several that change the state of one `etag`, one does, and the others get `PreconditionFailed`. None takes
    whatever state there is. Raises `Conflict` where it has ended, and `Invalid` for what is no arm.
    """
    experiment = _locked(session, experiment_id)
    if etag is not None and etag != experiment.etag:
        raise PreconditionFailed(
            f'experiment \'{experiment.name}\' was changed meanwhile: it is at "{experiment.etag}", not "{etag}"; look'
            " at it again",
            field="If-Match",
        )
    _check_state(experiment, ("draft", *live.LIVE), "change")
    detail: Json = {"by": by}
    if weights is not None:
        wanted = {_arm(experiment, variant)["variant"]: weight for variant, weight in weights.items()}
        detail["weights"] = {"from": {each["variant"]: each["weight"] for each in experiment.arms}, "to": wanted}
        experiment.arms = [{**each, "weight": wanted.get(each["variant"], each["weight"])} for each in experiment.arms]
    if coverage is not None:
        detail["coverage"] = {"from": experiment.coverage, "to": coverage}
        experiment.coverage, experiment.step_at = coverage, now()
        experiment.step = _step(experiment.ramp, coverage)
    return _changed(session, experiment, "changed", detail)


def ramp(session: Session, experiment_id: str, *, step: int) -> bool:
    """Take step number `step`, from 1, of the ramp; returns whether this call did.

    Of several processes that want the same step, one does. False too where it is not running, or has no such step
    next.
    """
    experiment = _locked(session, experiment_id)
    steps = experiment.ramp["steps"] if experiment.ramp else []
    if experiment.state != "running" or step != experiment.step + 1 or step > len(steps):
        return False
    detail = {"by": "ramp", "step": step, "coverage": {"from": experiment.coverage, "to": steps[step - 1]}}
    experiment.step, experiment.step_at, experiment.coverage = step, now(), steps[step - 1]
    _changed(session, experiment, "ramped", detail)
    return True


def weights_changed(session: Session, experiment_id: str) -> bool:
    """Whether weights were changed after units had come: there are then no shares that all of them should have."""
    started = (
        select(func.min(ExperimentEvent.id))
        .where(ExperimentEvent.experiment_id == experiment_id, ExperimentEvent.kind == "started")
        .scalar_subquery()
    )
    query = select(ExperimentEvent.detail).where(
        ExperimentEvent.experiment_id == experiment_id, ExperimentEvent.kind == "changed", ExperimentEvent.id > started
    )
    return any("weights" in detail for detail in session.scalars(query))


def events_after(session: Session, experiment_id: str, last_id: int = 0) -> list[ExperimentEvent]:
    """What happened since event `last_id`, in order."""
    query = select(ExperimentEvent).where(ExperimentEvent.experiment_id == experiment_id, ExperimentEvent.id > last_id)
    return list(session.scalars(query.order_by(ExperimentEvent.id)))


def state_of(session: Session, experiment_id: str) -> str | None:
    """Its state; None when there is no such experiment."""
    return session.scalar(select(Experiment.state).where(Experiment.id == experiment_id))


def _resolve(session: Session, model: Model, references: Sequence[str]) -> dict[str, Variant]:
    """The variants, by what they are called here, of the newest revision that has them all."""
    rows = variants.listed(session, model)
    for revision in sorted({row.revision_id for row in rows}, reverse=True):
        known = {name: row for row in rows if row.revision_id == revision for name in (row.label, str(row.version))}
        if all(reference in known for reference in references):
            return {reference: known[reference] for reference in references}
    found = [variants.find(session, model, reference) for reference in references]
    said = ", ".join(f"'{row.label}' is of revision {row.revision.number}" for row in found)
    raise Invalid(f"an experiment compares variants of one revision; {said}", field="arms")


def _named(variant: Variant) -> Json:
    return {"variant": variant.label, "version": variant.version}


def _step(ramp: Json | None, coverage: float) -> int:
    return sum(step <= coverage for step in ramp["steps"]) if ramp else 0


def _locked(session: Session, experiment_id: str) -> Experiment:
    """The experiment as it is once nobody else changes any of its model; raises `UnknownExperiment`."""
    experiment = find(session, experiment_id)
    session.scalar(select(Model.id).where(Model.id == experiment.model_id).with_for_update())
    options = [joinedload(Experiment.model), joinedload(Experiment.revision)]
    fresh = session.get(Experiment, experiment_id, options=options, populate_existing=True)
    if fresh is None:
        raise UnknownExperiment(experiment_id)
    return fresh


def _repeated(session: Session, experiment: Experiment, key: Key | None) -> bool:
    """Whether `key` made a change of the experiment before; raises `Invalid` where that was another one."""
    if key is None:
        return False
    query = select(ExperimentEvent.fingerprint).where(
        ExperimentEvent.experiment_id == experiment.id, ExperimentEvent.key == key.text
    )
    known = session.scalar(query)
    if known is not None and known != key.fingerprint:
        raise Invalid("this Idempotency-Key was used for a different request", field="Idempotency-Key")
    return known is not None


def _check_state(experiment: Experiment, states: Sequence[str], verb: str) -> None:
    if experiment.state not in states:
        raise Conflict(
            f"experiment '{experiment.name}' is {experiment.state}: to {verb} it, it must be {' or '.join(states)}"
        )


def _check_answers(session: Session, experiment: Experiment, each: Mapping[str, Any]) -> None:
    variant = variants.find(session, experiment.model, str(each["version"]))
    variants.check_serves(experiment.model, variant)
    if variant.unloaded_at is not None:
        raise Conflict(
            f"variant '{variant.label}' was unloaded; to load it: POST"
            f" /v2/repository/models/{experiment.model.name}@{variant.label}/load",
            field="arms",
        )


def _arm(experiment: Experiment, variant: str) -> Json:
    for each in experiment.arms:
        if variant in (each["variant"], str(each["version"])):
            return each
    known = ", ".join(each["variant"] for each in experiment.arms)
    raise Invalid(f"'{variant[:80]}' is no arm of '{experiment.name}'; it has {known}", field="variant")


def _changed(session: Session, experiment: Experiment, kind: str, detail: Json, key: Key | None = None) -> Experiment:
    experiment.etag += 1
    _log(session, experiment, kind, detail, key)
    session.flush()
    return experiment


def _log(session: Session, experiment: Experiment, kind: str, detail: Json, key: Key | None = None) -> None:
    session.add(
        ExperimentEvent(
            experiment_id=experiment.id,
            kind=kind,
            detail={"state": experiment.state, **detail},
            key=key.text if key else None,
            fingerprint=key.fingerprint if key else None,
        )
    )
    by = None if detail["by"] == REQUEST else detail["by"]
    audit.record(session, kind.replace("_", " "), "experiment", f"{experiment.model.name}/{experiment.name}", by=by)
