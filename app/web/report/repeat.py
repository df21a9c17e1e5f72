"""The commands that make and measure the same again."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.contracts.methods import EVALUATE
from app.registry.models import ORIGINAL
from app.registry.names import LONGEST

_AGAIN = "-again"


@dataclass(frozen=True)
class Commands:
    """For a shell; the service is at `$OCTET_URL`."""

    octet: str
    curl: str


def commands(model: str, row: Mapping[str, Any], report: Mapping[str, Any]) -> Commands:
    """All options are named, since defaults may change; the variant gets a label that is free, as a rule."""
    method, options = _method(row, report)
    dataset = (report.get("dataset") or {}).get("name")
    label = None if method == EVALUATE.name else row["variant"][: LONGEST - len(_AGAIN)] + _AGAIN
    job = {
        "model": model,
        "revision": row.get("revision"),
        "method": method,
        "dataset": dataset,
        "variant": label,
        "options": options,
    }
    return Commands(_octet(model, method, dataset, label, options), _curl(job))


def _method(row: Mapping[str, Any], report: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    told = report.get("method")
    if isinstance(told, Mapping) and "name" in told:
        return told["name"], told.get("options", {})
    if row["method"] != ORIGINAL:
        return row["method"], row.get("options", {})
    # The original, measured beside a variant.
    split = (report.get("dataset") or {}).get("split") or {}
    names = {"evaluation_samples": "evaluation_samples", "seed": "seed"}
    return EVALUATE.name, {name: split[key] for name, key in names.items() if key in split}


def _octet(model: str, method: str, dataset: str | None, label: str | None, options: Mapping[str, Any]) -> str:
    parts = [f"octet quantize {shlex.quote(model)} {shlex.quote(method)}"]
    if dataset is not None:
        parts.append(f"--dataset {shlex.quote(dataset)}")
    if label is not None:
        parts.append(f"--variant {shlex.quote(label)}")
    parts += [f"--option {shlex.quote(f'{name}={_written(value)}')}" for name, value in options.items()]
    return " \\\n  ".join(parts)


def _written(value: Any) -> str:
    """As `octet` reads it: JSON, or text that is none."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)


def _curl(job: Mapping[str, Any]) -> str:
    content = json.dumps({key: value for key, value in job.items() if value is not None})
    return f'curl "$OCTET_URL/api/v1/jobs" \\\n  -H "Content-Type: application/json" \\\n  -d {shlex.quote(content)}'
