"""Training: it makes the loss small, keeps the best, ends when it is told to, and goes on where it was stopped."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import engines
from tests.servers import WITHOUT_TORCH
from tests.worker import models
from worker.samples import Feeder
from worker.training.grids import ActivationGrid, WeightGrid
from worker.training.history import Now, Samples, Schedule

torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)

from worker.training import checkpoints  # noqa: E402
from worker.training.session import Learned, Session  # noqa: E402

_X = models.normal(96, 3, 8, 8)
_CONVOLUTIONS = ("w1", "w2")


def _session(folder: Path, labels: np.ndarray | None = None) -> Session:
    """The classifier with weights of three integers a side, which is coarse enough to be trained."""
    model = models.classifier()
    original = engines.get("onnxruntime").load(models.write(model, folder), intra_op_threads=1)
    weights = {tensor.name: models.onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    grids = {
        name: WeightGrid(np.abs(weights[name]).max(axis=(1, 2, 3)).astype(np.float32) / 3, 0, 3)
        for name in _CONVOLUTIONS
    }
    order = np.arange(len(_X))
    samples = Samples(Feeder(original.inputs, {"x": _X}), order[:64], order[64:], labels)
    return Session(
        model,
        {"r1": ActivationGrid.over(0.0, 8.0, 64)},
        grids,
        {},
        {},
        [*_CONVOLUTIONS, "fb", "not an initializer"],
        original.run,
        samples,
        classes=0,
        are_probabilities=False,
        threads=1,
    )


def _schedule(**changed: Any) -> Schedule:
    return Schedule(**{"epochs": 6, "learning_rate": 3e-3, "batch_size": 16, "max_seconds": 60.0, "seed": 1} | changed)


def _train(session: Session, folder: Path, **changed: Any) -> Learned:
    tell = changed.pop("tell", lambda now: None)
    checkpoint, save = changed.pop("checkpoint", None), changed.pop("save", lambda path: None)
    return session.train(_schedule(**changed), tell=tell, checkpoint=checkpoint, save=save, folder=folder)


def _copies(folder: Path, saved: list[Path]) -> Callable[[Path], None]:
    """Copies checkpoints to names of their own, since each takes the place of the one before."""
    return lambda path: saved.append(Path(shutil.copy(path, folder / f"saved-{len(saved)}.npz")))


def test_the_loss_on_samples_held_out_falls_and_the_best_state_remains(tmp_path: Path) -> None:
    session = _session(tmp_path)
    learned = _train(session, tmp_path)
    losses = [epoch.validation_loss for epoch in learned.trained.epochs]
    assert len(losses) == 7
    assert learned.trained.best == int(np.argmin(losses)) > 0
    assert min(losses) < 0.7 * losses[0]
    assert session.validation_loss(learned.student, 16) == pytest.approx(min(losses), rel=1e-4)
    assert learned.parameters.keys() == {*_CONVOLUTIONS, "fb"}
    assert learned.scales.keys() == {"r1", *_CONVOLUTIONS}


def test_the_same_seed_learns_the_same(tmp_path: Path) -> None:
    one, other = (_train(_session(tmp_path), tmp_path, epochs=2) for _ in range(2))
    for name, values in one.parameters.items():
        np.testing.assert_allclose(values, other.parameters[name], rtol=1e-5, atol=1e-6)


def test_a_rate_at_which_nothing_is_learned_leaves_what_was_there(tmp_path: Path) -> None:
    session = _session(tmp_path)
    before = {name: value.detach().numpy().copy() for name, value in session._student.module.initializers.items()}
    learned = _train(session, tmp_path, learning_rate=1.0, epochs=3)
    assert learned.trained.best == 0
    for name, values in learned.parameters.items():
        np.testing.assert_array_equal(values, before[name])


def test_time_that_is_up_ends_it_with_the_best_so_far(tmp_path: Path) -> None:
    learned = _train(_session(tmp_path), tmp_path, epochs=1000, max_seconds=1.0)
    assert learned.trained.stopped == "time was up"
    assert 1 <= len(learned.trained.epochs) - 1 < 1000


def test_progress_counts_steps_and_the_rest(tmp_path: Path) -> None:
    told: list[Now] = []
    _train(_session(tmp_path), tmp_path, epochs=2, tell=told.append)
    assert [(now.epoch, now.step, now.steps) for now in told] == [(e, s, 4) for e in (1, 2) for s in (1, 2, 3, 4)]
    assert [now.share for now in told] == sorted(now.share for now in told)
    assert all(now.eta_seconds >= 0.0 for now in told)
    assert told[-1].last.agreement is not None


def test_labels_take_part_where_there_are_any(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 5, len(_X))
    with_labels, without = (
        _train(_session(tmp_path, given), tmp_path, epochs=1).trained.epochs for given in (labels, None)
    )
    # What is judged is how true the student is, labels or not.
    assert with_labels[0].validation_loss == pytest.approx(without[0].validation_loss)
    assert with_labels[1].training_loss is not None
    assert without[1].training_loss is not None
    assert with_labels[1].training_loss > without[1].training_loss


def test_a_second_attempt_goes_on_from_the_checkpoint_and_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.training.distill._CHECKPOINT_SECONDS", 0.0)
    saved: list[Path] = []
    whole = _train(_session(tmp_path), tmp_path, save=_copies(tmp_path, saved))
    assert len(saved) >= 3
    assert len(list(tmp_path.glob("checkpoint*"))) == 1
    resumed = _train(_session(tmp_path), tmp_path, checkpoint=saved[2])
    assert len(resumed.trained.epochs) == len(whole.trained.epochs)
    for one, other in zip(whole.trained.epochs, resumed.trained.epochs, strict=True):
        assert other.validation_loss == pytest.approx(one.validation_loss, rel=1e-3)
    for name, values in whole.parameters.items():
        np.testing.assert_allclose(resumed.parameters[name], values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("damage", ["truncated", "of another schedule", "no checkpoint at all"])
def test_a_checkpoint_that_is_of_no_use_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr("worker.training.distill._CHECKPOINT_SECONDS", 0.0)
    saved: list[Path] = []
    _train(_session(tmp_path), tmp_path, epochs=2, save=_copies(tmp_path, saved))
    used = saved[0]
    if damage == "truncated":
        used.write_bytes(used.read_bytes()[:-200])
    elif damage == "no checkpoint at all":
        used.write_bytes(b"hello")
    schedule = {"seed": 2} if damage == "of another schedule" else {}
    learned = _train(_session(tmp_path), tmp_path, epochs=2, checkpoint=used, **schedule)
    assert [epoch.epoch for epoch in learned.trained.epochs] == [0, 1, 2]


def test_a_checkpoint_gives_back_what_was_saved_whatever_the_names(tmp_path: Path) -> None:
    arrays = {"now weight /b/b.0/Conv": models.normal(3, 4), "step": np.array(7.0)}
    path = checkpoints.save(tmp_path / "c.npz", arrays, {"epochs": [1, 2]})
    found, description = checkpoints.load(path)
    assert description == {"epochs": [1, 2]}
    assert found.keys() == arrays.keys()
    np.testing.assert_array_equal(found["now weight /b/b.0/Conv"], arrays["now weight /b/b.0/Conv"])
    assert [each.name for each in tmp_path.iterdir()] == ["c.npz"]
