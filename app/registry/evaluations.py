"""Evaluations: what was measured of a variant, and how it is kept."""

from typing import Any

from sqlalchemy.orm import Session

from app.contracts.figures import Figures, LayerFigures
from app.registry.tables import Evaluation, LayerEvaluation, Variant

_COLUMNS = {"name", "operator", "sqnr_db"}
_DETAILS = "layer_details"


def record(
    session: Session,
    variant: Variant,
    figures: Figures,
    *,
    dataset: str | None,
    samples: int,
    layers: list[LayerFigures],
    report: dict[str, Any],
) -> Evaluation:
    """Keep `figures` as the evaluation of `variant`, in place of an earlier one."""
    if variant.evaluation is not None:
        session.delete(variant.evaluation)
        session.flush()
    evaluation = Evaluation(
        variant=variant,
        dataset=dataset,
        samples=samples,
        metrics=report.get("metrics", []),
        # Layers have a table of their own, for what they are sought and sorted by.
        report={section: content for section, content in report.items() if section != "layers"}
        | ({_DETAILS: [layer.model_dump(exclude=_COLUMNS) for layer in layers]} if layers else {}),
        layers=[
            LayerEvaluation(position=position, name=layer.name, operator=layer.operator, sqnr_db=layer.sqnr_db)
            for position, layer in enumerate(layers)
        ],
        **figures.model_dump(),
    )
    session.add(evaluation)
    return evaluation


def whole_report(evaluation: Evaluation) -> dict[str, Any]:
    """The report as it was recorded, its layers included."""
    report = {section: content for section, content in evaluation.report.items() if section != _DETAILS}
    details = evaluation.report.get(_DETAILS) or [{}] * len(evaluation.layers)
    layers = [
        LayerFigures(name=layer.name, operator=layer.operator, sqnr_db=layer.sqnr_db, **detail).model_dump()
        for layer, detail in zip(evaluation.layers, details, strict=True)
    ]
    return report | {"layers": layers}
