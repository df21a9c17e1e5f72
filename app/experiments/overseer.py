"""Watches over running experiments: stops arms that break a guardrail, and ramps up those that do not.

Every gateway does; the registry sees to it that each rollback and each step happens once.
"""

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from app.errors import OctetError
from app.periodic import Periodic
from app.registry import Database, Session, experiments
from app.registry.tables import Experiment, now

if TYPE_CHECKING:
    from app.experiments.judgement import Judgement
    from app.experiments.results import Findings

_log = logging.getLogger(__name__)

_EVERY_S = 2.0


class Overseer:
    """A thread that looks every two seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._periodic = Periodic("overseer", _EVERY_S, self.look)

    def start(self) -> None:
        self._periodic.start()

    def stop(self) -> None:
        self._periodic.stop()

    def look(self) -> None:
        """Look once at every running experiment; one that cannot be judged does not keep the others from it."""
        with self._database.reading() as session:
            running = [experiment.id for experiment in experiments.running(session)]
        for experiment_id in running:
            try:
                self._judge(experiment_id)
            except OctetError as error:
                # It was stopped or changed in this moment, and is looked at again.
                _log.info("experiment %s was left as it is: %s", experiment_id, error.detail)

    def _judge(self, experiment_id: str) -> None:
        # Brings scipy, which gateways without experiments never need.
        from app.experiments.results import findings

        with self._database.reading() as session:
            experiment = experiments.find(session, experiment_id)
            found = findings(session, experiment)
        broken = _broken(found) if experiment.auto_rollback else {}
        for variant, judgement in broken.items():
            reason = _reason(variant, judgement)
            with self._database.writing(changes=experiment.model.name) as session:
                experiments.rollback(session, experiment_id, variant, reason, by="guardrail")
            _log.warning("experiment '%s': %s", experiment.name, reason)
        if not broken and _may_ramp(experiment, found, now()):
            with self._database.writing(changes=experiment.model.name) as session:
                self._ramp(session, experiment)

    def _ramp(self, session: Session, experiment: Experiment) -> None:
        assert experiment.step is not None
        if experiments.ramp(session, experiment.id, step=experiment.step + 1):
            _log.info("experiment '%s' takes step %d of its ramp", experiment.name, experiment.step + 1)


def _broken(found: "Findings") -> "dict[str, Judgement]":
    """The first broken guardrail of each arm that has one."""
    broken = {}
    for each in found.verdicts:
        judgement = next((judged for judged in each.judgements if judged.result == "broken"), None)
        if judgement is not None:
            broken[each.variant] = judgement
    return broken


def _reason(variant: str, judgement: "Judgement") -> str:
    guardrail, interval = judgement.guardrail, judgement.interval
    return (
        f"arm '{variant}' broke the guardrail '{guardrail.metric}': {interval.estimate:.4g}"
        f" [{interval.low:.4g}, {interval.high:.4g}] against a limit of {guardrail.limit:.4g}"
    )


def _may_ramp(experiment: Experiment, found: "Findings", at: datetime) -> bool:
    """Whether the step was held for long enough, each arm has its units, and nothing speaks against more."""
    ramp = experiment.ramp
    if not ramp or experiment.step_at is None or experiment.step is None:
        return False
    held_s = (at - experiment.step_at).total_seconds()
    live = [arm["variant"] for arm in experiment.arms if not arm["stopped"] and arm["weight"]]
    enough = all(found.counts.unit_count(variant) >= ramp["min_units"] for variant in live)
    fair = found.sample_ratio is None or not found.sample_ratio.mismatch
    return held_s >= ramp["hold_s"] and enough and fair
