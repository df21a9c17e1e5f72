"""Datasets that are a `.zip` of images; folders, if there are any, are the classes."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from app.engines.engine import Array
from app.errors import InvalidDataset
from app.intake.archive import ZipUpload, open_zip
from app.intake.artifacts import ArraySpec, CheckedDataset, Limits
from app.intake.dataset_file import LABEL, DatasetWriter
from app.intake.preprocess import ImagePreprocess

MAX_IMAGES = 200_000
MAX_IMAGE_BYTES = 128 * 1024**2
MAX_PIXELS = 64_000_000
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
#: What Pillow raises for a file that is not the image it claims to be.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class _Listing:
    """The images of an archive in the order of their names, and of each the folder, which is its class."""

    images: tuple[str, ...]
    folders: tuple[str, ...] | None


def read_images(source: Path, target: Path, limits: Limits, wanted: ImagePreprocess) -> CheckedDataset:
    """Check a `.zip` of images, turn them into one array, and write that to `target` in canonical form.

    Samples are in the order of the file names. Images in folders are labelled, each with the index of its folder
    among the sorted folder names. A folder that holds all of the others is passed over, and a single folder with
    all images is no class. Pixels are taken as stored: no EXIF rotation. Raises `InvalidDataset` or `TooLarge`.
    """
    if wanted.input == LABEL:
        raise InvalidDataset(f"the array of images cannot be called '{LABEL}'", field="preprocess")
    with open_zip(source, limits, InvalidDataset, max_members=MAX_IMAGES) as upload:
        listing = _listed(upload.names)
        height, width = wanted.size or _size_of_first(upload, listing.images[0])
        return _written(upload, listing, (height, width), wanted, target, limits)


def _listed(names: Sequence[str]) -> _Listing:
    images = sorted(name for name in names if not _is_clutter(name))
    for name in images:
        if not name.lower().endswith(ENDINGS):
            raise InvalidDataset(f"{name[-80:]!r} in the archive is not an image; accepted are {', '.join(ENDINGS)}")
    if not images:
        raise InvalidDataset(f"the archive holds no image; accepted are {', '.join(ENDINGS)}")
    places = [name.split("/")[:-1] for name in images]
    while all(place for place in places) and len({place[0] for place in places}) == 1:
        places = [place[1:] for place in places]
    depths = {len(place) for place in places}
    if depths == {0}:
        return _Listing(tuple(images), None)
    if depths != {1}:
        raise InvalidDataset(
            "the archive's images lie at different depths; put each into the folder of its class, or all at the top"
        )
    return _Listing(tuple(images), tuple(place[0] for place in places))


def _is_clutter(name: str) -> bool:
    """What file managers leave in archives."""
    last = name.rpartition("/")[2]
    return name.startswith("__MACOSX/") or last.startswith(".") or last in {"Thumbs.db", "desktop.ini"}


def _size_of_first(upload: ZipUpload, name: str) -> tuple[int, int]:
    image = _opened(upload, name)
    return image.height, image.width


def _written(
    upload: ZipUpload,
    listing: _Listing,
    size: tuple[int, int],
    wanted: ImagePreprocess,
    target: Path,
    limits: Limits,
) -> CheckedDataset:
    count, planes = len(listing.images), (wanted.channels,)
    axes = (*planes, *size) if wanted.layout == "NCHW" else (*size, *planes)
    datatype = "FP32" if wanted.dtype == "float32" else "UINT8"
    specs = [ArraySpec(wanted.input, datatype, (count, *axes))]
    class_names = None
    if listing.folders is not None:
        class_names = tuple(sorted(set(listing.folders)))
        specs.append(ArraySpec(LABEL, "INT64", (count,)))
    with DatasetWriter(target, specs, limits, class_names) as writer:
        for name in listing.images:
            writer.write(wanted.input, _sample(_opened(upload, name), name, size, wanted))
        if listing.folders is not None and class_names is not None:
            index = {folder: position for position, folder in enumerate(class_names)}
            writer.write(LABEL, np.array([index[folder] for folder in listing.folders], np.int64))
    return writer.checked()


def _opened(upload: ZipUpload, name: str) -> Image.Image:
    """The image `name`, its header read and its size within bounds, not decoded yet."""
    if upload.size_of(name) > MAX_IMAGE_BYTES:
        raise InvalidDataset(f"image {name[-80:]!r} is over {MAX_IMAGE_BYTES} bytes")
    with upload.open(name) as member:
        content = BytesIO(member.read(MAX_IMAGE_BYTES))
    try:
        image = Image.open(content, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise InvalidDataset(_too_many_pixels(name)) from error
    except _BROKEN as error:
        raise InvalidDataset(f"image {name[-80:]!r} is damaged, or not of a format its ending says") from error
    if image.width * image.height > MAX_PIXELS:
        raise InvalidDataset(_too_many_pixels(name))
    return image


def _too_many_pixels(name: str) -> str:
    return f"image {name[-80:]!r} has more pixels than the {MAX_PIXELS} that are accepted"


def _sample(image: Image.Image, name: str, size: tuple[int, int], wanted: ImagePreprocess) -> Array:
    """One sample, float32 or uint8, in the wanted layout: `(channels, height, width)` or channels last."""
    try:
        image.load()
        if image.mode in _DEEP_MODES:
            raise InvalidDataset(f"image {name[-80:]!r} has more than 8 bits a channel; save it with 8")
        image = image.convert("L" if wanted.color == "L" else "RGB")
    except _BROKEN as error:
        raise InvalidDataset(f"image {name[-80:]!r} is truncated or damaged") from error
    pixels: Array = np.asarray(_resized(image, name, size, wanted)).reshape(*size, wanted.channels)
    if wanted.color == "BGR":
        pixels = pixels[:, :, ::-1]
    if wanted.dtype == "float32":
        pixels = _normalised(pixels, wanted)
    return pixels.transpose(2, 0, 1) if wanted.layout == "NCHW" else pixels


def _normalised(pixels: Array, wanted: ImagePreprocess) -> Array:
    """Bytes `(height, width, channels)` as float32, scaled, then shifted and divided by channel."""
    with np.errstate(all="ignore"):
        values: Array = pixels.astype(np.float32) * np.float32(wanted.scale)
        if wanted.mean is not None:
            values = values - np.array(wanted.mean, np.float32)
        if wanted.std is not None:
            values = values / np.array(wanted.std, np.float32)
    if not np.isfinite(values).all():
        raise InvalidDataset("scale, mean and std lead to infinite values", field="preprocess")
    return values


def _resized(image: Image.Image, name: str, size: tuple[int, int], wanted: ImagePreprocess) -> Image.Image:
    height, width = size
    if image.size == (width, height):
        return image
    if wanted.size is None:
        raise InvalidDataset(
            f"image {name[-80:]!r} is {image.height} high and {image.width} wide, the first one {height} and {width};"
            ' give the size all shall have, as in preprocess {"size": [224, 224]}'
        )
    if wanted.resize == "stretch":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    # The largest middle part of the wanted proportions, scaled to the wanted size.
    factor = min(image.width / width, image.height / height)
    part_width, part_height = width * factor, height * factor
    left, top = (image.width - part_width) / 2, (image.height - part_height) / 2
    box = (left, top, left + part_width, top + part_height)
    return image.resize((width, height), Image.Resampling.BILINEAR, box)
