"""Plans: made once for a header that many requests share, and anew for a variant that changed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from app.engines import TensorSpec
from app.errors import Invalid, Unloaded
from app.inference import validation
from app.inference.request import RequestHeader, TensorHeader
from app.inference.served_variant import ServedVariant
from app.inference.validation import plan_for
from app.serving.pool import Artifact

VARIANT = ServedVariant(
    "m",
    "original",
    1,
    (1,),
    Artifact("onnxruntime", "digest"),
    (TensorSpec("x", "FP32", (-1, 4)),),
    (TensorSpec("y", "FP32", (-1, 2)),),
    None,
    True,
)


def header(*shape: int, is_cached: bool = True) -> RequestHeader:
    return RequestHeader((TensorHeader("x", "FP32", shape),), is_cached=is_cached)


def test_a_shared_header_is_checked_once_for_each_variant() -> None:
    shared = header(1, 4)
    plan = plan_for(VARIANT, shared)
    assert plan_for(VARIANT, shared) is plan
    # One of the same name and the same fields may still be another to the registry.
    changed = replace(VARIANT)
    assert changed == VARIANT
    assert plan_for(changed, shared) is not plan


def test_the_plan_of_a_header_of_one_request_is_not_kept() -> None:
    kept = validation._kept_plan.cache_info().currsize
    single = header(1, 4, is_cached=False)
    assert plan_for(VARIANT, single) is not plan_for(VARIANT, single)
    assert validation._kept_plan.cache_info().currsize == kept


def test_what_was_refused_is_checked_again() -> None:
    wrong = header(1, 5)
    for _ in range(2):
        with pytest.raises(Invalid, match="unexpected shape"):
            plan_for(VARIANT, wrong)


def test_an_unloaded_variant_has_no_plan_though_it_had_one() -> None:
    shared = header(1, 4)
    plan_for(VARIANT, shared)
    with pytest.raises(Unloaded):
        plan_for(replace(VARIANT, unloaded=True), shared)


def test_no_more_than_so_many_plans_are_kept() -> None:
    for rows in range(1, 2000):
        plan_for(VARIANT, header(rows, 4))
    assert validation._kept_plan.cache_info().currsize <= 1024


def test_callers_at_the_same_time_get_plans_of_their_own_headers() -> None:
    headers = [header(rows, 4) for rows in range(1, 9)] * 50
    with ThreadPoolExecutor(8) as threads:
        plans = list(threads.map(lambda each: plan_for(VARIANT, each), headers))
    sizes = [(rows, 4 * rows) for rows in range(1, 9)] * 50
    assert [plan._size for plan in plans] == sizes
