"""What was measured on what: a line each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.web.report.leaves import shown

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Fact:
    """`text` and, where it has one, the `digest` (sha256) that tells it from all others."""

    name: str
    text: str
    digest: str | None = None


def circumstances(report: Json) -> list[Fact]:
    """Model, data, split, machine, versions and types of a report, as far as it tells them."""
    return [*_model(report), *_dataset(report), *_machine(report), *_method(report)]


def _model(report: Json) -> Iterator[Fact]:
    model = report.get("model")
    if isinstance(model, Mapping) and model.get("digest"):
        yield Fact("Model", "the upload, FP32", model["digest"])


def _dataset(report: Json) -> Iterator[Fact]:
    dataset = report.get("dataset")
    if not isinstance(dataset, Mapping):
        return
    if dataset.get("name"):
        yield Fact("Dataset", shown(dataset["name"]), dataset.get("digest"))
    split = dataset.get("split")
    if isinstance(split, Mapping):
        seed = {name: split[name] for name in ("seed", "samples") if name in split}
        yield Fact("Split", shown(seed))
        for part, use in (("calibration", "Calibrating or kept apart"), ("evaluation", "Judging")):
            if f"{part}_samples" in split:
                yield Fact(use, f"{split[f'{part}_samples']} samples", split.get(f"{part}_digest"))


def _machine(report: Json) -> Iterator[Fact]:
    for name in ("machine", "versions"):
        if isinstance(report.get(name), Mapping):
            yield Fact(name.capitalize(), shown(report[name]))


def _method(report: Json) -> Iterator[Fact]:
    """All but its options, which the command holds, and its repairs, which are told beside the layers."""
    method = report.get("method")
    if not isinstance(method, Mapping):
        return
    for name, value in method.items():
        if name not in {"options", "repairs"} and value not in (None, [], {}):
            yield Fact(name.replace("_", " ").capitalize() if name != "name" else "Method", shown(value))
