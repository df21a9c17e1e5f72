"""Models whose runs take as long as the shapes of their inputs say, whatever the values are.

Only of these can it be told beforehand that a run is short. A loop runs as often as a value says, and an expansion
makes of one number as many as another asks for.
"""

from collections.abc import Iterable

_GOVERNED_BY_VALUES = frozenset(
    {
        *("If", "Loop", "Scan"),
        *("Compress", "NonMaxSuppression", "NonZero", "Unique"),
        *("ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample", "CenterCropPad"),
        *("AffineGrid", "Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", "StringSplit", "RegexFullMatch"),
        *("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", "DFT", "STFT"),
    }
)


def is_steady(operators: Iterable[str]) -> bool:
    """Whether a model of these operators (`domain::` before those of no standard domain) is of that kind."""
    return _GOVERNED_BY_VALUES.isdisjoint(operators) and not any("::" in name for name in operators)
