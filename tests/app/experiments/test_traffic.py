import numpy as np
import pytest

from app.errors import Invalid
from app.experiments.traffic import traffic_for_means, traffic_for_rates


def test_a_split_for_two_points_takes_what_textbooks_say() -> None:
    """0.20 against 0.22 at 5% and 80%: 6,510 in each half."""
    assert traffic_for_rates(0.2, 0.03, 0.02).split == pytest.approx(13_020, abs=20)


def test_pairs_take_much_less_the_more_answers_agree() -> None:
    rare, often = (traffic_for_rates(0.8, disagreement, 0.005) for disagreement in (0.008, 0.1))
    assert rare.split == often.split
    assert rare.saving > 5 * often.saving > 25


def test_the_promised_power_is_there() -> None:
    rng = np.random.default_rng(1)
    needed = traffic_for_rates(0.8, 0.03, -0.01)
    pairs = rng.multinomial(needed.paired, [0.01, 0.02, 0.97], 4000)
    won, lost = pairs[:, 0], pairs[:, 1]
    assert np.mean((won - lost) / np.sqrt(won + lost) < -1.96) == pytest.approx(0.8, abs=0.03)
    half = needed.split // 2
    control, arm = rng.binomial(half, 0.8, 4000) / half, rng.binomial(half, 0.79, 4000) / half
    errors = np.sqrt((control * (1 - control) + arm * (1 - arm)) / half)
    assert np.mean((arm - control) / errors < -1.96) == pytest.approx(0.8, abs=0.03)


def test_clients_whose_requests_are_alike_make_a_split_dearer() -> None:
    plain, clustered = traffic_for_rates(0.2, 0.03, 0.02), traffic_for_rates(0.2, 0.03, 0.02, design_effect=3)
    assert clustered.split == pytest.approx(3 * plain.split, abs=3)
    assert clustered.paired == plain.paired


def test_of_means_it_is_the_ratio_of_variances_and_four() -> None:
    needed = traffic_for_means(0.5, 0.1, 0.05)
    assert needed.saving == pytest.approx(4 * 25, rel=0.05)
    # (1.96 + 0.84)²·4·0.25/0.0025
    assert needed.split == pytest.approx(3140, rel=0.01)


@pytest.mark.parametrize(("rate", "effect"), [(0.2, 0), (0.99, 0.02), (1.2, -0.5)])
def test_what_cannot_be_is_refused(rate: float, effect: float) -> None:
    with pytest.raises(Invalid, match="does not leave a rate"):
        traffic_for_rates(rate, 0.1, effect)


def test_no_effect_cannot_be_found() -> None:
    with pytest.raises(Invalid, match="effect of 0"):
        traffic_for_means(1, 1, 0)
