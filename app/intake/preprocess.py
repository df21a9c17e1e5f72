"""The JSON that may come with a dataset: how its file becomes arrays."""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import InvalidDataset

Name = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
Side = Annotated[int, Field(ge=1, le=16_384)]


class Preprocess(BaseModel):
    """Options of a format. An unknown one is rejected with the list of those that exist."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ArrayPreprocess(Preprocess):
    """For `.npy`: what its one array is called."""

    input: Name = "input"


class ImagePreprocess(Preprocess):
    """For `.zip` of images: each becomes `(pixels · scale - mean) / std`, per channel.

    Without `size`, `[height, width]`, all images must be of one size. `resize` says how another size is met:
    `stretch` ignores the proportions, `crop` fills the size and cuts off what stands out, evenly.
    """

    input: Name = "input"
    size: tuple[Side, Side] | None = None
    resize: Literal["stretch", "crop"] = "stretch"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    color: Literal["RGB", "BGR", "L"] = "RGB"
    dtype: Literal["float32", "uint8"] = "float32"
    scale: float = Field(default=1 / 255, gt=0)
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @property
    def channels(self) -> int:
        return 1 if self.color == "L" else 3

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dtype == "uint8" and self.model_fields_set & {"scale", "mean", "std"}:
            raise ValueError("scale, mean and std are for float32: uint8 pixels are kept as they are")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise ValueError(f"{name} must have {self.channels} values, one for each channel of {self.color}")
        if "resize" in self.model_fields_set and self.size is None:
            raise ValueError("resize needs a size, [height, width]")
        return self


ArrayDtype = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"
]


class TablePreprocess(Preprocess):
    """For `.csv`, `.jsonl`, `.parquet`: which columns make which array, and what dtype it gets.

    With `columns`, each array is its columns side by side, `(samples, columns)`, and other columns are left out.
    """

    columns: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] | None = None
    label: Name | None = None
    dtype: dict[Name, ArrayDtype] = {}


AnyPreprocess = TypeVar("AnyPreprocess", bound=Preprocess)


def parsed(kind: type[AnyPreprocess], text: str | None) -> AnyPreprocess:
    """`text` as a `kind`, all defaults when None; raises `InvalidDataset` that names what is wrong in it."""
    try:
        return kind.model_validate_json(text if text else "{}")
    except ValidationError as error:
        faults = "; ".join(_fault(each["loc"], each["msg"]) for each in error.errors()[:5])
        known = ", ".join(kind.model_fields)
        raise InvalidDataset(f"preprocess is not valid: {faults} (known: {known})", field="preprocess") from error


def _fault(location: tuple[int | str, ...], message: str) -> str:
    place = ".".join(str(part) for part in location)[:80]
    message = message.removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
