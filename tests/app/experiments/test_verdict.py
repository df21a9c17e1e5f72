import re

import numpy as np
import pytest

from app.experiments.evidence import Evidence
from app.experiments.guardrails import Guardrail
from app.experiments.judgement import Result, judge
from app.experiments.moments import Moments
from app.experiments.pairs import Pairs
from app.experiments.sketch import Latencies
from app.experiments.verdict import Verdict, Word, verdict

GUARDRAILS = (
    Guardrail("error_rate", margin_abs=0.002),
    Guardrail("latency_p95", margin_rel=0.10),
    Guardrail("disagreement", max=0.012),
    Guardrail("outcome:clicked", margin_abs=0.005),
)


def proportion_of(part: float, units: int) -> Moments:
    return Moments.of_values(units, round(part * units), round(part * units), proportion=True)


def evidence(
    variant: str,
    units: int,
    *,
    errors: float = 0.001,
    ms: float = 3.0,
    clicked: float = 0.2,
    pairs: Pairs | None = None,
) -> Evidence:
    rng = np.random.default_rng(7)
    latency = Latencies()
    for bucket, ns in enumerate((ms * 1e6 * rng.lognormal(0, 0.3, min(units, 20_000))).tolist()):
        latency.add(bucket, ns)
    outcomes = {"clicked": proportion_of(clicked, units)}
    return Evidence(variant, proportion_of(errors, units), latency, outcomes, pairs or Pairs())


def pairs_of(count: int, *, disagreement: float = 0.008, ratio: float = 2.9) -> Pairs:
    pairs = Pairs(count=count, compared=count, disagreements=round(disagreement * count))
    for _ in range(min(count, 1000)):
        pairs.ratios.add(ratio * 1e6)
    return pairs


def said(*, units: int = 400_000, **arm: object) -> Verdict:
    return verdict(evidence("original", units), evidence("int8", units, **arm), GUARDRAILS)  # type: ignore[arg-type]


def test_right_answers_are_told_and_weighed() -> None:
    pairs = pairs_of(20_000)
    pairs.add_labels(20_000, 40, 60)
    found = said(ms=1.03, pairs=pairs)
    assert "right answers +0.1 points [" in found.sentence
    assert "(alone right on 60, alone wrong on 40 of 20000 labelled)" in found.sentence
    assert found.word is Word.BETTER
    pairs.add_labels(20_000, 600, 0)
    # All margins hold, and what is surely worse keeps it from being better.
    assert said(ms=1.03, pairs=pairs).word is Word.NOT_WORSE


def test_a_faster_variant_within_all_margins_is_better() -> None:
    found = said(ms=1.03, pairs=pairs_of(20_000))
    assert found.word is Word.BETTER
    assert found.sentence == (
        "int8: 2.9x faster at p50, disagrees on 0.8% [0.57, 1.1], errors not worse than +0.2 points,"
        " p95 not worse than +10%, clicked not worse than -0.5 points (95%)"
    )
    assert found.differences.paired
    assert {judgement.result for judgement in found.judgements} == {Result.HOLDS}


def test_one_that_is_no_faster_is_not_worse() -> None:
    found = said(pairs=pairs_of(20_000, ratio=1.0))
    assert found.word is Word.NOT_WORSE
    assert "0.99x as fast at p50 [0.98, 1.00]" in found.sentence


def test_one_that_is_faster_and_surely_fails_more_is_not_called_better() -> None:
    found = said(ms=1.0, errors=0.0022, pairs=pairs_of(20_000))
    assert found.differences.errors.low > 0
    assert found.word is Word.NOT_WORSE


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ({"errors": 0.02}, r"errors worse than \+0.2 points: \+1.9 points \[\+1.8, \+2\]"),
        ({"ms": 6.0}, r"p95 worse than \+10%: \+97% \[\+89, \+110\]"),
        ({"pairs": pairs_of(20_000, disagreement=0.1)}, r"disagrees on 10% \[9.2, 11\], more than 1.2%"),
        ({"clicked": 0.18}, r"clicked worse than -0.5 points: -2 points \[-2.3, -1.7\]"),
    ],
)
def test_a_broken_guardrail_makes_it_worse_whatever_else(arm: dict[str, object], says: str) -> None:
    found = said(**{"pairs": pairs_of(20_000), **arm})
    assert found.word is Word.WORSE
    assert re.search(says, found.sentence), found.sentence


def test_while_one_guardrail_is_open_so_is_the_verdict() -> None:
    found = said(units=5_000, ms=1.0, pairs=pairs_of(20_000))
    assert found.word is Word.INCONCLUSIVE
    assert "clicked +0 points [-2.7, +2.7], open whether worse than -0.5 points" in found.sentence


def test_at_the_start_nothing_is_known() -> None:
    nothing = verdict(Evidence("original"), Evidence("int8"), GUARDRAILS)
    assert nothing.word is Word.INCONCLUSIVE
    assert nothing.sentence == (
        "int8: disagreement not known yet, errors not known yet, p95 not known yet, clicked not known yet (95%)"
    )
    assert verdict(Evidence("original"), Evidence("int8"), ()).sentence == "int8: nothing to go by yet (95%)"


@pytest.mark.parametrize(
    ("arm", "word"),
    [
        ({"ms": 1.0}, Word.BETTER),
        ({"errors": 0.01}, Word.WORSE),
        ({}, Word.INCONCLUSIVE),
        ({"clicked": 0.25}, Word.BETTER),
    ],
)
def test_without_guardrails_sure_differences_decide(arm: dict[str, object], word: Word) -> None:
    control, other = evidence("original", 50_000), evidence("int8", 50_000, **arm)  # type: ignore[arg-type]
    assert verdict(control, other, ()).word is word


def test_less_of_an_outcome_is_better_when_said_so() -> None:
    guardrail = Guardrail("outcome:clicked", margin_abs=0.005, lower_is_better=True)
    control, arm = evidence("original", 400_000), evidence("int8", 400_000, clicked=0.18)
    assert verdict(control, arm, [guardrail]).word is Word.BETTER
    assert verdict(arm, control, [guardrail]).word is Word.WORSE
    assert "clicked not worse than +0.5 points" in verdict(control, arm, [guardrail]).sentence


def test_outcomes_that_are_no_proportions_are_told_as_they_are() -> None:
    values = Moments.of_values(10_000, 120_000, 2_440_000)
    control, arm = (Evidence(name, outcomes={"seconds": values}) for name in ("original", "int8"))
    found = verdict(control, arm, [Guardrail("outcome:seconds", margin_abs=2.0, lower_is_better=True)])
    assert found.sentence == "int8: seconds not worse than +2 (95%)"


def test_guardrails_share_the_false_alarms() -> None:
    guardrail = Guardrail("error_rate", margin_abs=0.002)
    control, arm = Evidence("original", proportion_of(0.004, 20_000)), Evidence("int8", proportion_of(0.0095, 20_000))
    assert judge(guardrail, control, arm, alpha=0.05).result is Result.BROKEN
    shared = judge(guardrail, control, arm, alpha=0.05, family=1000)
    assert shared.result is Result.UNDECIDED
    assert shared.interval == judge(guardrail, control, arm, alpha=0.05).interval


def test_without_pairs_the_split_says_how_fast() -> None:
    found = verdict(evidence("original", 20_000), evidence("int8", 20_000, ms=1.5), ())
    assert not found.differences.paired
    assert found.differences.speedup.low < 2 < found.differences.speedup.high
    assert "2.0x faster at p50" in found.sentence
    slower = verdict(evidence("original", 20_000), evidence("int8", 20_000, ms=6.0), ())
    assert "2.0x slower at p50" in slower.sentence
