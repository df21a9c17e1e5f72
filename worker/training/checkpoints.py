"""Checkpoints of training: arrays by name and a description in JSON, as one `.npz` without pickled objects."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DESCRIPTION = "description"


def save(path: Path, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> Path:
    """Write a file that is whole as soon as it has the name `path`."""
    unfinished = path.with_suffix(".part")
    stored: dict[str, Any] = {_DESCRIPTION: np.array(json.dumps(description))}
    stored |= {f"/{name}": array for name, array in arrays.items()}
    with unfinished.open("wb") as file:
        np.savez(file, **stored)
    return unfinished.rename(path)


def load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and description; raises `ValueError` for a file that is no checkpoint."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            description: dict[str, Any] = json.loads(str(stored[_DESCRIPTION]))
            return {name.removeprefix("/"): stored[name] for name in stored.files if name != _DESCRIPTION}, description
    except (KeyError, OSError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(f"not a checkpoint: {error}") from error
