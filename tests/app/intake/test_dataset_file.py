import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from app.errors import InvalidDataset, TooLarge
from app.intake.artifacts import ArraySpec, Limits
from app.intake.dataset_file import DatasetWriter, open_dataset

LIMITS = Limits(seconds=60, unpacked_bytes=1_000_000)
SPECS = [ArraySpec("y", "INT64", (4, 2)), ArraySpec("a", "FP32", (4,)), ArraySpec("label", "INT64", (4,))]
A = np.array([1, 2, 3, 4], np.float32)
Y = np.arange(8).reshape(4, 2)
LABELS = np.array([0, 1, 1, 0])


def write(path: Path, *, interleaved: bool = False) -> str:
    with DatasetWriter(path, SPECS, LIMITS, ("no", "yes")) as writer:
        step = 1 if interleaved else 4
        for start in range(0, 4, step):
            writer.write("label", LABELS[start : start + step])
            writer.write("y", Y[start : start + step])
            writer.write("a", A[start : start + step])
    return writer.checked().digest


def test_pieces_in_any_order_make_the_same_file(tmp_path: Path) -> None:
    assert write(tmp_path / "one") == write(tmp_path / "two", interleaved=True)


def test_the_layout_is_pinned_so_that_digests_last(tmp_path: Path) -> None:
    assert write(tmp_path / "d") == "b38e174114025fa1b526e800bf82ee6f8b97ebe28b9a9cab198bcf13d46b2237"


def test_any_zip_reader_and_numpy_read_it(tmp_path: Path) -> None:
    write(tmp_path / "d.npz")
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.npy", "label.npy", "y.npy", "class_names.json"]
    with np.load(tmp_path / "d.npz") as loaded:
        np.testing.assert_array_equal(loaded["y"], Y)
        np.testing.assert_array_equal(loaded["a"], A)


def test_what_is_opened_is_mapped_aligned_and_read_only(tmp_path: Path) -> None:
    write(tmp_path / "d")
    samples = open_dataset(tmp_path / "d")
    assert len(samples) == 4
    assert samples.class_names == ("no", "yes")
    assert samples.arrays.keys() == {"a", "y"}
    np.testing.assert_array_equal(samples.arrays["y"], Y)
    assert samples.labels is not None
    np.testing.assert_array_equal(samples.labels, LABELS)
    for array in (*samples.arrays.values(), samples.labels):
        assert array.__array_interface__["data"][0] % 64 == 0
        assert isinstance(array.base, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_opening_takes_neither_onnx_nor_the_readers(tmp_path: Path) -> None:
    write(tmp_path / "d")
    program = (
        "import sys; from pathlib import Path; from app.intake.dataset_file import open_dataset;"
        "open_dataset(Path(sys.argv[1])); print([m for m in ('onnx', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path / "d")], capture_output=True, check=True)
    assert ran.stdout.strip() == b"[]"


def test_an_array_larger_than_four_gigabytes_has_its_place(tmp_path: Path) -> None:
    """The file is sparse: it takes next to no disk."""
    size = 5 * 1024**3
    specs = [ArraySpec("a", "UINT8", (size,)), ArraySpec("b", "FP32", (3,))]
    writer = DatasetWriter(tmp_path / "d", specs, Limits(60, 2 * size))
    writer.write("b", np.array([1, 2, 3], np.float32))
    writer._members["a"].position = writer._members["a"].end  # as if all of it had been written
    with writer:
        pass
    samples = open_dataset(tmp_path / "d")
    assert samples.arrays["a"].shape == (size,)
    assert samples.arrays["b"].tolist() == [1, 2, 3]


def test_an_array_must_be_written_whole_and_in_its_dtype(tmp_path: Path) -> None:
    spec = [ArraySpec("a", "FP32", (4,))]
    with pytest.raises(ValueError, match="less was written"), DatasetWriter(tmp_path / "1", spec, LIMITS) as writer:
        writer.write("a", A[:3])
    with pytest.raises(ValueError, match="more was written"), DatasetWriter(tmp_path / "2", spec, LIMITS) as writer:
        writer.write("a", np.append(A, A))
    with pytest.raises(ValueError, match="float64 was written"), DatasetWriter(tmp_path / "3", spec, LIMITS) as writer:
        writer.write("a", A.astype(np.float64))
    with pytest.raises(TooLarge, match="as arrays"):
        DatasetWriter(tmp_path / "4", [ArraySpec("a", "FP32", (10**9,))], LIMITS)
    assert not (tmp_path / "4").exists()


def test_a_file_that_is_no_canonical_dataset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    write(path)
    content = path.read_bytes()
    for wrong in (b"", b"junk", content[: len(content) // 2], content.replace(b"NUMPY\x01", b"NUMPY\x02")):
        path.write_bytes(wrong)
        with pytest.raises(InvalidDataset, match="canonical"):
            open_dataset(path)
    np.savez_compressed(path.with_suffix(".npz"), a=A)
    with pytest.raises(InvalidDataset, match="canonical"):
        open_dataset(path.with_suffix(".npz"))
