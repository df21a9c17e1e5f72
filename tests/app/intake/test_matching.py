import pytest

from app.engines.engine import TensorSpec
from app.errors import DatasetMismatch
from app.intake.artifacts import ArraySpec
from app.intake.matching import check_match

IMAGE = TensorSpec("x", "FP32", (-1, 3, 224, 224))


@pytest.mark.parametrize(
    ("inputs", "arrays"),
    [
        ([IMAGE], [ArraySpec("x", "FP32", (10, 3, 224, 224))]),
        ([IMAGE], [ArraySpec("x", "FP32", (1, 3, 224, 224)), ArraySpec("y", "INT64", (1,))]),
        ([TensorSpec("x", "FP32", (8, 3))], [ArraySpec("x", "FP32", (10, 3))]),
        ([TensorSpec("x", "INT64", (-1, -1))], [ArraySpec("x", "INT64", (10, 128))]),
        ([TensorSpec("x", "BOOL", (-1,))], [ArraySpec("x", "BOOL", (10,))]),
        ([], [ArraySpec("x", "FP32", (1,))]),
    ],
)
def test_a_dataset_that_can_feed_the_model_matches(inputs: list[TensorSpec], arrays: list[ArraySpec]) -> None:
    check_match(inputs, arrays)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            [ArraySpec("z", "FP32", (9, 1)), ArraySpec("a", "FP32", (9, 1))],
            "no array for .* input 'x'; it has 'a', 'z'",
        ),
        ([ArraySpec("x", "FP64", (9, 3, 224, 224))], "'x' of the dataset is FP64; the model's input is FP32"),
        ([ArraySpec("x", "UINT8", (9, 3, 224, 224))], "UINT8"),
        ([ArraySpec("x", "FP32", (3, 224, 224))], r"\[3, 224, 224\], 3 axes .* has 4, \[-1, 3, 224, 224\]"),
        ([ArraySpec("x", "FP32", (9, 224, 224, 3))], r"of size 224 on axis 1; .* needs 3 there"),
        ([ArraySpec("x", "FP32", (9, 3, 220, 224))], r"of size 220 on axis 2; .* needs 224 there"),
    ],
)
def test_a_mismatch_names_the_array_and_what_it_should_be(arrays: list[ArraySpec], words: str) -> None:
    with pytest.raises(DatasetMismatch, match=words) as refused:
        check_match([IMAGE], arrays)
    assert refused.value.field == "dataset"
    assert "'x'" in refused.value.detail


def test_a_scalar_input_cannot_be_fed_samples() -> None:
    with pytest.raises(DatasetMismatch, match="1 axes"):
        check_match([TensorSpec("x", "FP32", ())], [ArraySpec("x", "FP32", (4,))])
