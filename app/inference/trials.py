"""Requests that an experiment answers: assigned, answered, counted, and offered to shadows."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from app.errors import DeadlineUnmet, QueueFull
from app.experiments.live import Assignment, Header, Live, Reason
from app.experiments.recorder import Recorder
from app.experiments.shadow import Shadowed, Shadows
from app.inference.dataplane import Asked, InferenceRequest, InferenceResponse, Served, Trial, checked

_log = logging.getLogger(__name__)

#: Has a variant answer; None where nobody waits for that any more.
Run = Callable[[Asked], Awaitable[InferenceResponse | None]]


class Trials:
    """The same for every face of the protocol."""

    def __init__(self, recorder: Recorder, shadows: Shadows) -> None:
        self._recorder = recorder
        self._shadows = shadows

    async def answer(
        self, served: Served, request: InferenceRequest, header: Header, request_id: str, run: Run
    ) -> InferenceResponse | None:
        """The answer, from the variant that the request names, or that the running experiment assigns to its unit.

        An arm that fails what the control answers costs its user nothing: the control's answer is given, and the
        failure counted. Raises what `run` raises, where the control or the default cannot answer either.
        """
        if served.trial is None:
            response = await run(checked(served, request))
            if response is None or served.experiment is None:
                return response
            return _told(response, served.experiment, Reason.forced)
        live = served.trial.live
        assignment = live.assign(header, request.parameters, request_id)
        chosen = served if assignment.variant is None else served.trial.variants.get(assignment.variant)
        if chosen is None or chosen.unloaded:
            assignment, chosen = replace(assignment, place=None, reason=Reason.fallback), served
        begun = time.perf_counter_ns()
        try:
            asked = checked(chosen, request)
            response = await run(asked)
        except (DeadlineUnmet, QueueFull):
            self._failed(live, assignment, request_id)
            raise
        except Exception as error:  # whatever it is, it is not to be the user's
            instead = served.trial.variants.get(live.split.control.variant)
            if assignment.place is None or instead is None or instead is chosen:
                raise
            # What the control refuses too is the request's fault, and raised from here.
            response = await run(checked(instead, request))
            _log.debug("'%s' failed what the control answered: %s", chosen.label, error)
            self._failed(live, assignment, request_id)
            assignment = replace(assignment, place=None, reason=Reason.fallback)
        if response is None:
            return None
        if assignment.place is not None:
            took_ns = time.perf_counter_ns() - begun
            self._recorder.answered(live.id, live.arms, assignment.place, took_ns, request_id)
        if assignment.reason is not Reason.fallback:
            self._offer(served.trial, assignment, asked, request_id)
        return _told(response, live.id, assignment.reason)

    def _failed(self, live: Live, assignment: Assignment, request_id: str) -> None:
        if assignment.place is not None:
            self._recorder.failed(live.id, live.arms, assignment.place, request_id)

    def _offer(self, trial: Trial, assignment: Assignment, asked: Asked, request_id: str) -> None:
        """To the shadows, what the control or the default has answered."""
        live = trial.live
        control = trial.variants.get(live.split.control.variant)
        if not live.samples or control is None or assignment.variant not in {None, live.split.control.variant}:
            return
        for sample in live.samples:
            shadow = trial.variants.get(sample.variant)
            if shadow is not None and not shadow.unloaded and sample.takes(request_id):
                self._shadows.offer(
                    Shadowed(
                        live.id,
                        live.arms,
                        sample.variant,
                        shadow.artifact,
                        control.artifact,
                        asked.work,
                        request_id,
                    )
                )


def _told(response: InferenceResponse, experiment: str, reason: Reason) -> InferenceResponse:
    told = {**response.parameters, "experiment": experiment, "assignment_reason": reason.value}
    return replace(response, parameters=told, experiment=experiment, reason=reason)
