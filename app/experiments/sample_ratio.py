"""Whether the arms have the units that their weights say. Where they have not, something loses units of one arm, and no
comparison can be trusted: Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments" (KDD
2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp

import numpy as np
from scipy.special import chdtrc, gammaln

#: A mismatch is what fair splits show less often than this.
ALPHA = 0.001
#: With fewer expected units in any arm nothing is said.
MINIMUM_UNITS = 8

# How sure the bet is that shares are about right. Like the normal mixture it is strongest at about 8 times as many
# units, and finds 48/52 by p < 0.001 in 20,000 of them nine times out of ten; one chi-square test does in 13,000.
_CONCENTRATION = 1_000


@dataclass(frozen=True)
class SampleRatio:
    """Whether the units are split as they should be.

    Attributes:
        p_value: Pearson's chi-square, for one look; None where there are too few units. Whoever looks a hundred times
            sees a fair split below 0.001 once in a hundred experiments: what waits for a mismatch, and acts on the
                first,
            is to use `anytime_p_value`.
        anytime_p_value: the inverse of what a bet on other shares has made; it is below p at any time in a part p of
            fair splits at most. Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022).
        mismatch: `p_value` is below `ALPHA`.
    """

    p_value: float | None
    anytime_p_value: float
    mismatch: bool


def sample_ratio(units: Mapping[str, int], shares: Mapping[str, float]) -> SampleRatio:
    """Of the units of each variant, counted once each, against the shares of them that each should have.

    Shares are relative to each other, and the same for as long as these units came. Arms whose share is 0 are left out.
    """
    arms = [variant for variant, share in shares.items() if share > 0]
    seen = np.array([units.get(variant, 0) for variant in arms], dtype=float)
    parts = np.array([shares[variant] for variant in arms], dtype=float)
    parts /= parts.sum()
    expected = parts * seen.sum()
    if len(arms) < 2 or expected.min() < MINIMUM_UNITS:
        return SampleRatio(None, 1.0, mismatch=False)
    p_value = float(chdtrc(len(arms) - 1, ((seen - expected) ** 2 / expected).sum()))
    return SampleRatio(p_value, exp(min(0.0, -_log_capital(seen, parts))), mismatch=p_value < ALPHA)


def _log_capital(seen: np.ndarray, parts: np.ndarray) -> float:
    """Of a bet by a Dirichlet mixture around the shares (Lindon and Malek 2022)."""
    prior = _CONCENTRATION * parts
    mixed = gammaln(prior + seen).sum() - gammaln(prior).sum()
    mixed += gammaln(_CONCENTRATION) - gammaln(_CONCENTRATION + seen.sum())
    return float(mixed - (seen * np.log(parts)).sum())
