import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import InvalidDataset, TooLarge
from app.intake import images
from app.intake.artifacts import ArraySpec, Limits
from app.intake.dataset_file import Samples, open_dataset
from tests.app.intake.archives import zip_of, zip_with_link
from tests.app.intake.conftest import Room

Pixels = NDArray[np.uint8]


def pixels(height: int = 6, width: int = 8, *, seed: int = 0, channels: int = 3) -> Pixels:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(array: NDArray[Any], kind: str = "PNG", **how: Any) -> bytes:
    made = io.BytesIO()
    Image.fromarray(array).save(made, kind, **how)
    return made.getvalue()


def opened(room: Room, files: dict[str, bytes], **preprocess: Any) -> Samples:
    room.clear()
    return open_dataset(room.dataset("d.zip", zip_of(files), json.dumps(preprocess) if preprocess else None).path)


def test_images_become_scaled_channels_first_samples_in_order_of_their_names(room: Room) -> None:
    first, second = pixels(seed=1), pixels(seed=2)
    files = {"b.png": encoded(second), "a.bmp": encoded(first, "BMP")}
    checked = room.dataset("d.zip", zip_of(files))
    assert checked.arrays == (ArraySpec("input", "FP32", (2, 3, 6, 8)),)
    assert not checked.labelled
    assert checked.class_names is None
    got = open_dataset(checked.path)
    wanted = np.stack([first, second]).transpose(0, 3, 1, 2).astype(np.float32) * np.float32(1 / 255)
    np.testing.assert_array_equal(got.arrays["input"], wanted)


def test_folders_are_classes(room: Room) -> None:
    files = {f"{folder}/{i}.png": encoded(pixels(seed=i)) for folder in ("dog", "cat", "eel") for i in range(2)}
    checked = room.dataset("d.zip", zip_of(files))
    assert checked.labelled
    assert checked.class_names == ("cat", "dog", "eel")
    got = open_dataset(checked.path)
    assert got.class_names == ("cat", "dog", "eel")
    assert got.labels is not None
    assert got.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_folder_around_everything_is_no_class(room: Room) -> None:
    image = encoded(pixels())
    assert opened(room, {"set/cat/1.png": image, "set/dog/1.png": image}).class_names == ("cat", "dog")
    assert opened(room, {"photos/1.png": image, "photos/2.png": image}).labels is None


def test_what_file_managers_add_is_passed_over(room: Room) -> None:
    image = encoded(pixels())
    files = {"1.png": image, "__MACOSX/._1.png": b"x", ".DS_Store": b"x", "Thumbs.db": b"x"}
    assert len(opened(room, files)) == 1


def test_the_same_images_in_other_folders_are_other_content(room: Room) -> None:
    digests = set()
    for folders in (("cat", "dog"), ("ant", "bee")):
        room.clear()
        digests.add(room.dataset("d.zip", zip_of({f"{f}/1.png": encoded(pixels()) for f in folders})).digest)
    assert len(digests) == 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_common_formats_are_read(room: Room, kind: str) -> None:
    flat = np.full((6, 8, 3), 128, np.uint8)
    got = opened(room, {f"a.{kind.lower()}": encoded(flat, kind)}, dtype="uint8")
    assert np.abs(got.arrays["input"].astype(int) - 128).max() <= 2


def test_layout_color_and_dtype_are_as_asked(room: Room) -> None:
    array = pixels()
    files = {"a.png": encoded(array)}
    got = opened(room, files, layout="NHWC", dtype="uint8", input="pixels").arrays["pixels"]
    np.testing.assert_array_equal(got, array[None])
    got = opened(room, files, layout="NHWC", dtype="uint8", color="BGR").arrays["input"]
    np.testing.assert_array_equal(got, array[None, :, :, ::-1])
    grey = pixels(channels=1)
    got = opened(room, {"a.png": encoded(grey)}, dtype="uint8", color="L").arrays["input"]
    np.testing.assert_array_equal(got, grey[None, None])
    got = opened(room, {"a.png": encoded(grey)}, dtype="uint8").arrays["input"]
    np.testing.assert_array_equal(got, np.stack([grey] * 3)[None])


def test_pixels_are_scaled_then_normalised_by_channel(room: Room) -> None:
    array = pixels()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    got = opened(room, {"a.png": encoded(array)}, mean=mean, std=std, scale=1 / 255).arrays["input"]
    wanted = ((array / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(got[0], wanted, rtol=1e-5, atol=1e-5)


def test_resizing_stretches_or_crops_the_middle(room: Room) -> None:
    halves = np.zeros((4, 12, 3), np.uint8)
    halves[:, 4:8] = 200  # the middle third, which is all that a square crop keeps
    files = {"a.png": encoded(halves)}
    cropped = opened(room, files, size=[4, 4], resize="crop", dtype="uint8").arrays["input"]
    np.testing.assert_array_equal(cropped, np.full((1, 3, 4, 4), 200, np.uint8))
    stretched = opened(room, files, size=[4, 4], resize="stretch", dtype="uint8").arrays["input"]
    assert stretched[0, 0, 0, 0] == 0
    assert stretched.max() > 100
    assert opened(room, files, size=[10, 20]).arrays["input"].shape == (1, 3, 10, 20)


def _png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


IMAGE = encoded(pixels())
DEEP = encoded(np.zeros((6, 8), np.uint16))

WRONG_IMAGES: list[tuple[bytes, str]] = [
    (b"PK\x03\x04", "zip"),
    (zip_of({}), "no image"),
    (zip_of({"notes.txt": b"hello"}), "'notes.txt' in the archive is not an image"),
    (zip_of({"a.png": IMAGE, "b.svg": b"<svg/>"}), "'b.svg'"),
    (zip_of({"a.png": b"not a png"}), "'a.png' is damaged"),
    (zip_of({"a.png": b""}), "'a.png' is damaged"),
    (zip_of({"a.png": IMAGE, "broken.png": IMAGE[:-60]}), "'broken.png' is truncated"),
    (zip_of({"a.png": IMAGE[:50] + b"\x00" * 40 + IMAGE[90:]}), "'a.png'"),
    (zip_of({"bomb.png": _png_claiming(60_000, 60_000)}), "'bomb.png' has more pixels"),
    (zip_of({"large.png": _png_claiming(9_000, 9_000)}), "'large.png' has more pixels"),
    (zip_of({"deep.png": DEEP}), "more than 8 bits"),
    (zip_of({"a.png": IMAGE, "b.png": encoded(pixels(7, 8))}), r"'b.png' is 7 high and 8 wide.*size"),
    (zip_of({"a.png": IMAGE, "cat/b.png": IMAGE}), "different depths"),
    (zip_of({"cat/b.png": IMAGE, "dog/x/b.png": IMAGE}), "different depths"),
    (zip_of({"../a.png": IMAGE}), "plain relative path"),
    (zip_with_link({"a.png": IMAGE}, "b.png", "../target"), "link"),
    (zip_of({"a.eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"}), "not of a format"),
]


@pytest.mark.parametrize(("content", "words"), WRONG_IMAGES)
def test_images_that_cannot_be_used_are_refused_by_name(room: Room, content: bytes, words: str) -> None:
    with pytest.raises(InvalidDataset, match=words) as refused:
        room.dataset("d.zip", content)
    assert refused.value.field == "file"
    assert str(room.path) not in refused.value.detail


@pytest.mark.parametrize(
    ("preprocess", "words"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"colour": "RGB"}', "colour: Extra inputs are not permitted.*known: input, size"),
        ('{"size": [224]}', "size"),
        ('{"size": [0, 4]}', "size"),
        ('{"size": [100000, 100000]}', "size"),
        ('{"resize": "crop"}', "needs a size"),
        ('{"mean": [0.5]}', "mean must have 3 values"),
        ('{"std": [1, 1, 0]}', "std"),
        ('{"color": "L", "mean": [0, 0, 0]}', "mean must have 1 values"),
        ('{"scale": NaN}', "preprocess"),
        ('{"scale": 1e300}', "infinite"),
        ('{"dtype": "uint8", "mean": [0, 0, 0]}', "for float32"),
        ('{"layout": "CHW"}', "layout"),
        ('{"input": "label"}', "label"),
    ],
)
def test_a_wrong_preprocess_says_what_would_be_right(room: Room, preprocess: str, words: str) -> None:
    with pytest.raises(InvalidDataset, match=words) as refused:
        room.dataset("d.zip", zip_of({"a.png": IMAGE}), preprocess)
    assert refused.value.field == "preprocess"


def test_limits_hold_for_images_too(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.limits = Limits(60, 1_000_000)
    with pytest.raises(TooLarge, match="as arrays"):
        room.dataset("d.zip", zip_of({"a.png": IMAGE}), '{"size": [4000, 4000]}')
    monkeypatch.setattr(images, "MAX_IMAGES", 2)
    with pytest.raises(TooLarge, match="more than 2 files"):
        room.dataset("d.zip", zip_of({f"{i}.png": IMAGE for i in range(3)}))
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 10)
    with pytest.raises(InvalidDataset, match="over 10 bytes"):
        room.dataset("d.zip", zip_of({"a.png": IMAGE}))
