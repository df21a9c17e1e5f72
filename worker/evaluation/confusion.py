"""Which classes are taken for which."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.classes import Classes

#: Of more classes a table tells nothing, and the pairs that are confused most are given.
MOST_CLASSES = 50

_MOST_PAIRS = 20
_LONGEST_NAME = 80


def confusion(
    truth: Classes | None, original: Classes, variant: Classes | None, names: Sequence[str] | None
) -> dict[str, Any] | None:
    """What the answers of both were, `(samples,)` each, for which `truth`; None where there is nothing to tell.

    Rows of a matrix are labels, columns answers. Without labels, pairs tell which of the original's answers became
    which of the variant's.
    """
    if not len(original):
        return None
    if truth is None:
        return _turned(original, variant, names) if variant is not None else None
    classes = 1 + int(max(values.max() for values in (truth, original, variant) if values is not None))
    least = int(min(values.min() for values in (truth, original, variant) if values is not None))
    if least < 0 or classes > MOST_CLASSES:
        return _confused(truth, original, variant, names)
    return {
        "rows": "label",
        "classes": [class_name(number, names) for number in range(classes)],
        "original": _matrix(truth, original, classes),
        "variant": _matrix(truth, variant, classes) if variant is not None else None,
    }


def class_name(number: int, names: Sequence[str] | None) -> str:
    """What class `number` is called, or the number."""
    return names[number][:_LONGEST_NAME] if names is not None and 0 <= number < len(names) else str(number)


def _matrix(truth: Classes, answers: Classes, classes: int) -> list[list[int]]:
    counts: NDArray[np.int64] = np.bincount(truth * classes + answers, minlength=classes * classes)
    rows: list[list[int]] = counts.reshape(classes, classes).tolist()
    return rows


def _confused(
    truth: Classes, original: Classes, variant: Classes | None, names: Sequence[str] | None
) -> dict[str, Any]:
    before = _pairs(truth, original)
    after = _pairs(truth, variant) if variant is not None else Counter()
    worst = sorted(before.keys() | after.keys(), key=lambda pair: (-max(before[pair], after[pair]), pair))
    return {
        "rows": "label",
        "pairs": [
            {
                "from": class_name(pair[0], names),
                "to": class_name(pair[1], names),
                "original": before[pair],
                "variant": after[pair] if variant is not None else None,
            }
            for pair in worst[:_MOST_PAIRS]
        ],
    }


def _turned(original: Classes, variant: Classes, names: Sequence[str] | None) -> dict[str, Any] | None:
    turned = sorted(_pairs(original, variant).items(), key=lambda item: (-item[1], item[0]))
    if not turned:
        return None
    return {
        "rows": "original",
        "pairs": [
            {"from": class_name(left, names), "to": class_name(right, names), "variant": count}
            for (left, right), count in turned[:_MOST_PAIRS]
        ],
    }


def _pairs(left: Classes, right: Classes) -> Counter[tuple[int, int]]:
    """How often each pair of different classes came."""
    differ = left != right
    return Counter(zip(left[differ].tolist(), right[differ].tolist(), strict=True))
