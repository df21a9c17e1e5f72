"""Checked uploads become rows of the registry. Both functions are to be called within `deposit`."""

from app.intake.artifacts import CheckedDataset, CheckedModel
from app.registry import Session, datasets, models
from app.registry.tables import Dataset, Revision


def register_model(
    session: Session, name: str, checked: CheckedModel, *, class_names: list[str] | None, engine: str
) -> tuple[Revision, bool]:
    """Add a revision to the model `name`, which comes to be with its first; `models.register` says what is raised.

    Returns:
        The revision, and whether it is new: the same bytes as before add nothing.
    """
    new = models.NewRevision(
        digest=checked.digest,
        file_digest=checked.file_digest,
        data_digest=checked.data_digest,
        data_name=checked.data_path.name if checked.data_path else None,
        size_bytes=checked.size_bytes,
        opset=checked.opset,
        inputs=[spec.as_json() for spec in checked.inputs],
        outputs=[spec.as_json() for spec in checked.outputs],
        operators=checked.operators,
        operator_nodes=checked.operator_nodes,
        float_bytes=checked.float_bytes,
        class_names=class_names,
        engine=engine,
    )
    return models.register(session, name, new)


def register_dataset(session: Session, name: str, checked: CheckedDataset) -> tuple[Dataset, bool]:
    """Add the dataset `name`; `datasets.register` says what is raised.

    Returns:
        The dataset, and whether it is new: the same content as before adds nothing.
    """
    new = datasets.NewDataset(
        digest=checked.digest,
        size_bytes=checked.size_bytes,
        samples=checked.samples,
        arrays=[array.as_json() for array in checked.arrays],
        labelled=checked.labelled,
        class_names=list(checked.class_names) if checked.class_names else None,
    )
    return datasets.register(session, name, new)
