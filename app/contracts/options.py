"""Options of the methods: pydantic models, from which the API's schema, the form and the CLI are made."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

#: How the range of an activation is found; percentiles say how many of its values, in %, the range holds.
RangeMethod = Literal["auto", "minmax", "percentile_99.9", "percentile_99.99", "percentile_99.999", "entropy", "mse"]


class EvaluateOptions(BaseModel):
    """What every job understands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluation_samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=2048, description="At most so many held-out samples are evaluated."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the calibration/evaluation split.")


class Options(EvaluateOptions):
    """What every method that makes a variant understands."""

    max_accuracy_drop: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=0.01, description="The share of the original's accuracy that may be lost; more, and it is rejected."
    )
    min_speedup: Annotated[float, Field(gt=0.0, le=1000.0)] | None = Field(
        default=None, description="Slower than so many times the original's speed, and it is rejected."
    )


class Fp16Options(Options):
    """Half-precision storage."""


class DynamicOptions(Options):
    """Dynamic INT8: integer weights; activation ranges are found at run time."""

    per_channel: bool = Field(default=True, description="One scale for each output channel of a weight.")


class Int4Options(Options):
    """Weights of matrix products in blocks of 4 or 8 bits; activations stay FP32 outside of the products."""

    bits: Literal[4, 8] = Field(default=4, description="Bits of a weight.")
    block_size: Literal[16, 32, 64, 128, 256] = Field(default=32, description="Weights that share a scale.")
    algorithm: Literal["auto", "rtn", "hqq", "gptq"] = Field(
        default="auto",
        description="`rtn` and `hqq` need no dataset, `gptq` does; `auto` tries them all and keeps what errs least.",
    )
    calibration_samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=128, description="At most so many samples calibrate; at most half of the dataset does."
    )


class Int8Options(Options):
    """Static INT8 (QDQ): integer weights and activations, ranges calibrated on a dataset."""

    per_channel: bool = Field(default=True, description="One scale for each output channel of a weight.")
    calibration_samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=256, description="At most so many samples calibrate; at most half of the dataset does."
    )
    activation_type: Literal["auto", "uint8", "int8"] = Field(
        default="auto", description="`auto` takes what the CPU of the worker runs fastest."
    )
    activation_bits: Annotated[int, Field(ge=4, le=8)] = Field(
        default=8, description="Bits of an activation, for trying what a narrower device would do; stored in 8."
    )
    calibration: RangeMethod = Field(
        default="auto", description="How activation ranges are found; `auto` takes for each tensor what errs least."
    )
    repair: bool = Field(default=True, description="Try repairs, each kept only when it measurably helps.")


class MixedOptions(Int8Options):
    """INT8 where it pays and FP32 where it harms, found by a search within the budget."""

    search_samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1024, description="At most so many samples, those that calibrate among them, steer the search."
    )
    max_seconds: Annotated[float, Field(gt=0.0, le=86_400.0)] = Field(
        default=60.0, description="The search ends after so many seconds, with the best that it found."
    )
    keep_fp32: list[str] = Field(
        default=[], max_length=10_000, description="Names of nodes that stay in FP32 whatever the search finds."
    )
    high_precision: Literal["fp32", "fp16"] = Field(
        default="fp32", description="How weights outside of INT8 are stored; they compute in FP32 either way."
    )
    point: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="A point of an earlier search, to be made into a variant without a new one."
    )


class QatOptions(Int8Options):
    """Static INT8 whose weights and scales are trained, to answer as the FP32 original does."""

    training_samples: Annotated[int, Field(ge=2, le=1_000_000)] = Field(
        default=8192, description="At most so many samples, those that calibrate among them, train; at most half do."
    )
    epochs: Annotated[int, Field(ge=1, le=1000)] = Field(default=20, description="Passes over the training samples.")
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        default=None,
        description="Of the first epochs; it falls to nothing along a cosine. `null` is 3e-5 for activations of 8 bits,"
        " and twice that for each bit less.",
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(default=32, description="Samples in a step.")
    max_seconds: Annotated[float, Field(gt=0.0, le=86_400.0)] = Field(
        default=480.0, description="Training ends after so many seconds, with the best that it found."
    )
