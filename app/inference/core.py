"""Answers inference requests: resolve, assign, validate, run. The same for every face of the protocol."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from anyio import CapacityLimiter, to_thread

from app.caller import Caller
from app.engines import TensorSpec
from app.engines.engine import OIP_NAMES
from app.errors import CallTooShort, DeadlineUnmet, QueueFull
from app.experiments.live import Assignment, Live, Reason
from app.experiments.recorder import Recorder
from app.experiments.shadow import Shadowed, Shadows
from app.inference.request import InferenceRequest
from app.inference.response import InferenceResponse, OutputTensor
from app.inference.served_variant import RunningExperiment, ServedVariant
from app.inference.tensors import classification
from app.inference.validation import Plan, plan_for
from app.inference.variant_cache import VariantCache
from app.serving.batch_queue import Answer
from app.serving.batcher import Batcher
from app.serving.batches import Work

_log = logging.getLogger(__name__)


class UnparsedRequest(Protocol):
    """A request as a face received it. `version`: of the model, or a label; None for what `model` stands for."""

    model: str
    version: str | None
    request_id: str

    def header(self, name: bytes) -> str | None:
        """The HTTP header, or what is called so elsewhere, of a lower-case name."""
        ...

    def parses_quickly(self, inputs: Sequence[TensorSpec]) -> bool:
        """Whether `parse` takes less time than handing it to a thread."""
        ...

    def parse(self, inputs: Sequence[TensorSpec]) -> InferenceRequest:
        """The request to a variant of these inputs. Raises `Invalid`, `TooLarge` or `Unsupported`."""
        ...

    async def wait_for(self, answer: "asyncio.Future[Answer]") -> Answer | None:
        """The answer; None, with `answer` cancelled, once the client has gone away."""
        ...


class InferenceCore:
    """For the event loop. `threads`: requests parsed or rendered in threads at once."""

    def __init__(
        self,
        variants: VariantCache,
        batcher: Batcher,
        recorder: Recorder,
        shadows: Shadows,
        *,
        threads: int,
        on_response: Callable[[InferenceResponse], None] | None = None,
    ) -> None:
        """`on_response` is called with each response."""
        self._variants = variants
        self._batcher = batcher
        self._recorder = recorder
        self._shadows = shadows
        self._on_response = on_response
        #: Of threads for what takes longer than a hop to one.
        self.limiter = CapacityLimiter(threads)

    async def answer(
        self, request: UnparsedRequest, caller: Caller, deadline: float | None = None
    ) -> InferenceResponse | None:
        """The response, from the variant that the request names or that the running experiment assigns to it.

        Args:
            request: What the face received.
            caller: Who asks.
            deadline: When the call ends, by `time.monotonic()`; an answer that would come later is not computed.

        Returns:
            The response; None where the client has gone away meanwhile.

        Raises:
            ModelForbidden: The caller's key is for other models.
            NotFound: There is no such model or variant.
            Invalid: The request is malformed, does not fit the variant, or the model refuses its values.
            InvalidModel: The variant cannot be loaded.
            Unavailable: The variant is unloaded, too many requests wait, or the answer would come too late.
        """
        if caller.models is not None:
            caller.check_may_use(request.model.partition("@")[0])
        known = self._variants.get(request.model, request.version)
        if known is not None and request.parses_quickly(known.inputs):
            variant, parsed = known, request.parse(known.inputs)
        else:
            variant, parsed = await to_thread.run_sync(self._resolved_and_parsed, request, limiter=self.limiter)
        timeout_us, is_of_call = _timeout_us(parsed.header.timeout_us, deadline)
        try:
            if variant.trial is None:
                response = await self._run(request, variant, parsed, timeout_us)
            else:
                response = await self._run_in_experiment(request, variant, variant.trial, parsed, timeout_us)
        except DeadlineUnmet as error:
            if is_of_call:
                raise CallTooShort(variant.model) from error
            raise
        if response is not None and self._on_response is not None:
            self._on_response(response)
        return response

    def _resolved_and_parsed(self, request: UnparsedRequest) -> tuple[ServedVariant, InferenceRequest]:
        variant = self._variants.resolve(request.model, request.version)
        return variant, request.parse(variant.inputs)

    async def _run(
        self, request: UnparsedRequest, variant: ServedVariant, parsed: InferenceRequest, timeout_us: int | None
    ) -> InferenceResponse | None:
        plan = plan_for(variant, parsed.header)
        answer = await self._computed(request, variant, plan.work(parsed.arrays, timeout_us))
        if answer is None:
            return None
        reason = None if variant.experiment is None else Reason.forced
        return _response(variant, parsed, plan, answer, variant.experiment, reason)

    async def _computed(self, request: UnparsedRequest, variant: ServedVariant, work: Work) -> Answer | None:
        """What the variant answers; None where the client has gone away."""
        return self._batcher.run_inline(variant.target, work) or await request.wait_for(
            asyncio.wrap_future(self._batcher.submit(variant.target, work))
        )

    async def _run_in_experiment(
        self,
        request: UnparsedRequest,
        default: ServedVariant,
        experiment: RunningExperiment,
        parsed: InferenceRequest,
        timeout_us: int | None,
    ) -> InferenceResponse | None:
        """The response of the arm that the experiment assigns, counted, and offered to shadows.

        An arm that fails what the control answers costs its user nothing: the control's answer is given, and the
        failure counted. Raises what the control raises, where it cannot answer either.
        """
        live, header = experiment.live, parsed.header
        assignment = live.assign(request.header, header.parameters, request.request_id)
        chosen = default if assignment.variant is None else experiment.variants.get(assignment.variant)
        if chosen is None or chosen.unloaded:
            assignment, chosen = replace(assignment, place=None, reason=Reason.fallback), default
        begun = time.perf_counter_ns()
        try:
            plan = plan_for(chosen, header)
            work = plan.work(parsed.arrays, timeout_us)
            answer = await self._computed(request, chosen, work)
        except (DeadlineUnmet, QueueFull):
            self._failed(live, assignment, request.request_id)
            raise
        except Exception as error:  # whatever it is, it is not to be the user's
            control = experiment.variants.get(live.split.control.variant)
            if assignment.place is None or control is None or control is chosen:
                raise
            # What the control refuses too is the request's fault, and raised from here.
            plan = plan_for(control, header)
            answer = await self._computed(request, control, plan.work(parsed.arrays, timeout_us))
            _log.debug("'%s' failed what the control answered: %s", chosen.label, error)
            self._failed(live, assignment, request.request_id)
            assignment, chosen = replace(assignment, place=None, reason=Reason.fallback), control
        if answer is None:
            return None
        if assignment.place is not None:
            took_ns = time.perf_counter_ns() - begun
            self._recorder.answered(live.id, live.arms, assignment.place, took_ns, request.request_id)
        if assignment.reason is not Reason.fallback:
            self._offer(experiment, assignment, work, request.request_id)
        return _response(chosen, parsed, plan, answer, live.id, assignment.reason)

    def _failed(self, live: Live, assignment: Assignment, request_id: str) -> None:
        if assignment.place is not None:
            self._recorder.failed(live.id, live.arms, assignment.place, request_id)

    def _offer(self, experiment: RunningExperiment, assignment: Assignment, work: Work, request_id: str) -> None:
        """Offer to the shadows what the control or the default has answered."""
        live = experiment.live
        control = experiment.variants.get(live.split.control.variant)
        if not live.samples or control is None or assignment.variant not in {None, live.split.control.variant}:
            return
        for sample in live.samples:
            shadow = experiment.variants.get(sample.variant)
            if shadow is not None and not shadow.unloaded and sample.takes(request_id):
                self._shadows.offer(
                    Shadowed(live.id, live.arms, sample.variant, shadow.artifact, control.artifact, work, request_id)
                )


def _timeout_us(asked_us: int | None, deadline: float | None) -> tuple[int | None, bool]:
    """The sooner of a request's own timeout and what is left of its call, and whether that is the call's."""
    if deadline is None:
        return asked_us or None, False
    left_us = max(1, int((deadline - time.monotonic()) * 1e6))
    return (asked_us, False) if asked_us and asked_us <= left_us else (left_us, True)


def _response(
    variant: ServedVariant,
    parsed: InferenceRequest,
    plan: Plan,
    answer: Answer,
    experiment: str | None,
    reason: Reason | None,
) -> InferenceResponse:
    outputs = []
    for wanted, array in zip(plan.outputs, answer.arrays, strict=True):
        if wanted.classification:
            classes = classification(array, wanted.classification, variant.class_names)
            outputs.append(OutputTensor(wanted.name, "BYTES", classes, wanted.binary))
        else:
            outputs.append(OutputTensor(wanted.name, OIP_NAMES[array.dtype], array, wanted.binary))
    return InferenceResponse(variant, outputs, parsed.header.id, answer.timing, experiment, reason, plan)
