"""What was answered to each held-out sample, for those who want to see which answers changed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.classes import Classes, ClassOutput
from worker.evaluation.confusion import class_name, confusion
from worker.evaluation.fidelity import FloatArray, cosines
from worker.evaluation.thumbnails import Images
from worker.samples import Indices

#: Of the samples whose answer changed, so many are shown.
MOST_SAMPLES = 24
#: So many of these may be such that only the original had right, unless there are no others.
MOST_LOST = 16

_QUANTILES = (0, 1, 5, 25, 50, 75, 95)


class Transcript:
    """Filled batch by batch while two models answer, or one by itself; small whatever the number of samples."""

    def __init__(self) -> None:
        self._indices: list[Indices] = []
        self._original: list[Classes] = []
        self._variant: list[Classes] = []
        self._truth: list[Classes] = []
        self._margins: dict[int, tuple[float, float, float]] = {}
        self._cosines: list[NDArray[np.float64]] = []
        self._compared_output = ""

    def add_classes(
        self,
        output: ClassOutput,
        indices: Indices,
        expected: Sequence[NDArray[Any]],
        answer: Sequence[NDArray[Any]] | None,
        truth: Classes | None,
    ) -> None:
        """What both answered to the samples at `indices`: outputs that hold rows of theirs, and maybe of more.

        `answer` is None where there is no variant; `truth` `(samples,)` are the labels of these samples.
        """
        rows = len(indices)
        original = output.read(expected)[:rows]
        self._indices.append(indices)
        self._original.append(original)
        if truth is not None:
            self._truth.append(truth)
        if answer is None:
            return
        variant = output.read(answer)[:rows]
        self._variant.append(variant)
        changed = np.flatnonzero(original != variant)
        if output.classes is not None and changed.size:
            left, right = (probabilities(outputs[output.position][changed]) for outputs in (expected, answer))
            self._note_margins(indices[changed], left, right)

    def _note_margins(self, indices: Indices, left: NDArray[np.float64], right: NDArray[np.float64]) -> None:
        second, first = np.sort(left, axis=1)[:, -2:].T
        for row, index in enumerate(indices.tolist()):
            self._margins[index] = (float(first[row]), float(right[row].max()), float(first[row] - second[row]))

    def add_vectors(self, name: str, indices: Indices, expected: FloatArray, answer: FloatArray) -> None:
        """Output `name` of both, `(rows, …)`, for samples at `indices`; finite."""
        self._compared_output = name
        self._indices.append(indices)
        self._cosines.append(cosines(expected, answer))

    def confusion(self, names: Sequence[str] | None) -> dict[str, Any] | None:
        """As `worker.evaluation.confusion` has it; None for a model that tells no classes."""
        if not self._original:
            return None
        original = np.concatenate(self._original)
        truth = np.concatenate(self._truth) if self._truth else None
        return confusion(truth, original, np.concatenate(self._variant) if self._variant else None, names)

    def changes(self, names: Sequence[str] | None, images: Images | None) -> dict[str, Any] | None:
        """The samples whose answer changed, those that matter most first; None where answers cannot be told apart.

        First come those that only the original had right, then those that only the variant has, then others; of each,
        those of which the original was surest. Where answers are no classes, the samples of least cosine.
        """
        if self._variant:
            found = self._changed_classes(names)
        elif self._cosines:
            found = self._least_alike()
        else:
            return None
        samples = found["samples"]
        if images is not None and samples:
            pictures = images.thumbnails([one["sample"] for one in samples], np.concatenate(self._indices).tolist())
            found["samples"] = [one | {"image": image} for one, image in zip(samples, pictures, strict=True)]
        return found

    def _changed_classes(self, names: Sequence[str] | None) -> dict[str, Any]:
        indices, original, variant = (np.concatenate(parts) for parts in (self._indices, self._original, self._variant))
        truth = np.concatenate(self._truth) if self._truth else None
        changed = np.flatnonzero(original != variant)
        rows = [
            self._changed(int(indices[row]), int(original[row]), int(variant[row]), truth, int(row), names)
            for row in changed
        ]
        rows.sort(key=lambda one: (_ORDER[one["change"]], -(one["margin"] or 0.0), one["sample"]))
        return {
            "kind": "classes",
            "samples_compared": len(original),
            "changed": len(rows),
            "samples": _selected(rows),
        }

    def _changed(
        self, sample: int, original: int, variant: int, truth: Classes | None, row: int, names: Sequence[str] | None
    ) -> dict[str, Any]:
        before, after, margin = self._margins.get(sample, (None, None, None))
        label = int(truth[row]) if truth is not None else None
        return {
            "sample": sample,
            "label": class_name(label, names) if label is not None else None,
            "original": class_name(original, names),
            "original_probability": _rounded(before),
            "variant": class_name(variant, names),
            "variant_probability": _rounded(after),
            "margin": _rounded(margin),
            "change": _change(label, original, variant),
        }

    def _least_alike(self) -> dict[str, Any]:
        indices, found = np.concatenate(self._indices), np.concatenate(self._cosines)
        worst = np.lexsort((indices, found))[:MOST_SAMPLES]
        return {
            "kind": "outputs",
            "output": self._compared_output,
            "samples_compared": len(found),
            "cosine_quantiles": {
                str(percent): float(value)
                for percent, value in zip(_QUANTILES, np.percentile(found, _QUANTILES), strict=True)
            },
            "samples": [{"sample": int(indices[row]), "cosine": float(found[row])} for row in worst],
        }


def _selected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all that changed, in order, those to be shown: not what was lost alone, where there is more to tell."""
    lost = [row for row in rows if row["change"] == "lost"]
    others = rows[len(lost) :]
    chosen = lost[: max(MOST_LOST, MOST_SAMPLES - len(others))]
    return chosen + others[: MOST_SAMPLES - len(chosen)]


_ORDER = {"lost": 0, "gained": 1, "both wrong": 2, "unknown": 3}


def _change(label: int | None, original: int, variant: int) -> str:
    if label is None:
        return "unknown"
    return {original: "lost", variant: "gained"}.get(label, "both wrong")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def probabilities(scores: NDArray[Any]) -> NDArray[np.float64]:
    """`scores` `(rows, classes)` where they are probabilities already, else their softmax."""
    values = scores.astype(np.float64)
    if bool((values >= 0.0).all()) and bool(np.allclose(values.sum(axis=1), 1.0, atol=1e-3)):
        return values
    with np.errstate(invalid="ignore"):
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return found
