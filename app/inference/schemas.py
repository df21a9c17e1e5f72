"""The bodies of the protocol as JSON schemas, for `/openapi.json`. Names are those of the protocol's specification."""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
#: Keys and values that mean nothing to the protocol are passed on.
FREE: Schema = {"type": "object"}


def reference(name: str) -> Schema:
    """To a schema of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **bounds: Any) -> Schema:
    return {"type": "array", "items": items, **bounds}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _described(schema: Schema, meaning: str) -> Schema:
    return schema | {"description": meaning}


def _durations(parts: Sequence[str]) -> Schema:
    return record(dict.fromkeys(parts, reference("StatisticDuration")))


_COMPUTE = ("compute_input", "compute_infer", "compute_output")
_SHAPE = _described(array({"type": "integer"}), "-1 is an axis of any length.")

SCHEMAS: dict[str, Schema] = {
    "InferenceError": record({"error": _described(TEXT, "What was wrong, and what would be right.")}),
    "InferenceTensor": record(
        {
            "name": TEXT,
            "shape": array(COUNT),
            "datatype": _described(
                TEXT, "BOOL, INT8 to INT64, UINT8 to UINT64, FP32, FP64, BYTES; FP16 and BF16 as binary data."
            ),
        },
        {
            "parameters": record({}, {"binary_data_size": _described(COUNT, "Bytes that follow the JSON.")}),
            "data": _described(array({}), "Nested or flat, in row-major order."),
        },
    ),
    "RequestedOutput": record(
        {"name": TEXT},
        {
            "parameters": record(
                {},
                {
                    "binary_data": _described(FLAG, "As bytes behind the JSON."),
                    "classification": _described(
                        COUNT, "So many of the highest scores, as `score:index:label`, in the place of all."
                    ),
                },
            )
        },
    ),
    "RequestParameters": record(
        {},
        {
            "binary_data_output": _described(FLAG, "All outputs as bytes behind the JSON."),
            "priority": _described(COUNT, "1 is the most urgent; 0 is the default."),
            "timeout": _described(COUNT, "Microseconds, after which no answer is wanted."),
            "sequence_id": {"type": ["integer", "string"]},
            "sequence_start": FLAG,
            "sequence_end": FLAG,
        },
    ),
    "InferenceRequest": record(
        {"inputs": array(reference("InferenceTensor"), minItems=1)},
        {
            "id": _described(TEXT, "Comes back in the answer."),
            "parameters": reference("RequestParameters"),
            "outputs": _described(array(reference("RequestedOutput")), "Default: all."),
        },
    ),
    "InferenceResponse": record(
        {"model_name": TEXT, "model_version": TEXT, "outputs": array(reference("InferenceTensor"))},
        {"id": TEXT, "parameters": _described(FREE, "`variant` is the label of what answered.")},
    ),
    "ServerMetadata": record({"name": TEXT, "version": TEXT, "extensions": array(TEXT)}),
    "TensorMetadata": record({"name": TEXT, "datatype": TEXT, "shape": _SHAPE}),
    "ModelMetadata": record(
        {
            "name": TEXT,
            "versions": array(TEXT),
            "platform": TEXT,
            "inputs": array(reference("TensorMetadata")),
            "outputs": array(reference("TensorMetadata")),
        }
    ),
    "TensorConfiguration": record({"name": TEXT, "data_type": TEXT, "dims": _SHAPE}),
    "ModelConfiguration": record(
        {
            "name": TEXT,
            "platform": TEXT,
            "backend": TEXT,
            "version_policy": FREE,
            "max_batch_size": COUNT,
            "input": array(reference("TensorConfiguration")),
            "output": array(reference("TensorConfiguration")),
            "model_transaction_policy": FREE,
            "response_cache": FREE,
        },
        {"dynamic_batching": _described(FREE, "Where requests may share a batch.")},
    ),
    "StatisticDuration": record({"count": COUNT, "ns": COUNT}),
    "ModelStatistics": record(
        {
            "name": TEXT,
            "version": TEXT,
            "last_inference": _described(COUNT, "Milliseconds since 1970."),
            "inference_count": _described(COUNT, "Rows that were answered."),
            "execution_count": _described(COUNT, "Batches that were run."),
            "inference_stats": _durations(("success", "fail", "queue", *_COMPUTE, "cache_hit", "cache_miss")),
            "response_stats": FREE,
            "batch_stats": array(FREE),
            "memory_usage": array(record({"type": TEXT, "id": COUNT, "byte_size": COUNT})),
        }
    ),
    "StatisticsResponse": record({"model_stats": array(reference("ModelStatistics"))}),
    "IndexedVariant": record(
        {"name": TEXT, "version": TEXT, "state": {"enum": ["READY", "UNAVAILABLE"]}, "reason": TEXT}
    ),
    "Settings": _described(FREE, "By name. null stands for what it is."),
}
