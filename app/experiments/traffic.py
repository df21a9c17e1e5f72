"""How many requests it takes to answer a question by a split, and by pairs."""

from dataclasses import dataclass
from math import ceil, sqrt

from scipy.special import ndtri

from app.errors import Invalid


@dataclass(frozen=True)
class Traffic:
    """Requests of users that an answer takes. In a split each goes to an arm; in pairs each is answered by both.

    For a look at the end, whose number is fixed beforehand. Looking at all times takes two to three times as many of
    either, so `saving` is the same.
    """

    split: int
    paired: int

    @property
    def saving(self) -> float:
        """How many times as much traffic the split takes."""
        return self.split / self.paired


def traffic_for_rates(
    rate: float,
    disagreement: float,
    effect: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> Traffic:
    """To find that the variant is right, or clicked, more or less often by `effect`, where the control is at `rate`.

    By a split into halves: two proportions (Fleiss, Levin and Paik, "Statistical methods for rates and proportions",
    2003, section 4.2), times what requests of one client being alike costs (Kish). By pairs: Connor, "Sample size for
    testing differences in proportions for the paired-sample design" (Biometrics 1987), with answers that differ on a
    part `disagreement`, which cannot be less than the effect. Raises `Invalid` for an effect of 0, and rates outside of
    0 to 1.
    """
    other = rate + effect
    if not (0 <= rate <= 1 and 0 <= other <= 1) or effect == 0:
        raise Invalid(f"an effect of {effect:g} on a rate of {rate:g} does not leave a rate of 0 to 1, or is none")
    discordant = max(disagreement, abs(effect))
    sure, found = _normal(alpha, power)
    middle = (rate + other) / 2
    apart = sure * sqrt(2 * middle * (1 - middle)) + found * sqrt(rate * (1 - rate) + other * (1 - other))
    paired = sure * sqrt(discordant) + found * sqrt(discordant - effect**2)
    return Traffic(ceil(2 * (apart / effect) ** 2 * design_effect), ceil((paired / effect) ** 2))


def traffic_for_means(
    deviation: float, paired_deviation: float, effect: float, *, alpha: float = 0.05, power: float = 0.8
) -> Traffic:
    """To find that a mean differs by `effect`, such as that of log latency, whose standard deviation is `deviation`
    over requests, and `paired_deviation` over the differences within pairs. Source: normal tests of two samples and of
    one.
    """
    if effect == 0:
        raise Invalid("an effect of 0 cannot be found")
    sure, found = _normal(alpha, power)
    needed = ((sure + found) / effect) ** 2
    return Traffic(ceil(4 * needed * deviation**2), max(ceil(needed * paired_deviation**2), 1))


def _normal(alpha: float, power: float) -> tuple[float, float]:
    return float(ndtri(1 - alpha / 2)), float(ndtri(power))
