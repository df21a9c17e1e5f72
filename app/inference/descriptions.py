"""What the server and its models say about themselves, in Triton's terms."""

from dataclasses import asdict
from typing import Any

from app import __version__
from app.engines import TensorSpec
from app.inference.served_variant import ServedVariant
from app.inference.variant_statistics import VariantCounts
from app.serving.statistics import Compute, Total

#: What is offered in full. Models keep no state, so `sequence` is not among them, nor is shared memory.
EXTENSIONS = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)


def server(name: str) -> dict[str, Any]:
    return {"name": name, "version": __version__, "extensions": list(EXTENSIONS)}


def metadata(variant: ServedVariant) -> dict[str, Any]:
    return {
        "name": variant.model,
        "versions": [str(version) for version in variant.versions],
        "platform": _platform(variant),
        "inputs": [spec.as_json() for spec in variant.inputs],
        "outputs": [spec.as_json() for spec in variant.outputs],
    }


def _platform(variant: ServedVariant) -> str:
    """Triton names a platform after the engine and the format of the model."""
    return f"{variant.artifact.engine}_onnx"


def config(variant: ServedVariant) -> dict[str, Any]:
    """`max_batch_size` is 0, whether or not the server batches: the shapes hold every axis, the batch's too.

    Any other number would say that they do not, and perf_analyzer drops the first axis of the metadata then.
    """
    batching: dict[str, Any] = {"dynamic_batching": {}} if variant.batchable else {}
    return {
        "name": variant.model,
        "platform": _platform(variant),
        "backend": variant.artifact.engine,
        "version_policy": {"specific": {"versions": [variant.version]}},
        "max_batch_size": 0,
        "input": [_config_tensor(spec) for spec in variant.inputs],
        "output": [_config_tensor(spec) for spec in variant.outputs],
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
        **batching,
    }


def statistics(counts: VariantCounts) -> dict[str, Any]:
    """One entry of `model_stats`."""
    tally, loaded_bytes = counts.tally, counts.loaded_bytes
    return {
        "name": counts.model,
        "version": str(counts.version),
        "last_inference": tally.last_inference_ms,
        "inference_count": tally.rows,
        "execution_count": tally.executions,
        "inference_stats": {
            "success": asdict(tally.success),
            "fail": asdict(tally.fail),
            "queue": asdict(tally.queue),
            **_compute(tally.requests),
            # There is no cache of responses; clients want the fields all the same.
            "cache_hit": asdict(Total()),
            "cache_miss": asdict(Total()),
        },
        "response_stats": {},
        "batch_stats": [{"batch_size": rows, **_compute(batch)} for rows, batch in sorted(tally.batches.items())],
        "memory_usage": [] if loaded_bytes is None else [{"type": "CPU", "id": 0, "byte_size": loaded_bytes}],
    }


def _compute(compute: Compute) -> dict[str, Any]:
    return {f"compute_{part}": duration for part, duration in asdict(compute).items()}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape)}
