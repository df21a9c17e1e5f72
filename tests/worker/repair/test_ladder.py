"""The ladder keeps what helps, and leaves nothing of what does not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from worker.repair.design import Design
from worker.repair.judge import Judge, decibels
from worker.repair.ladder import Climbed, Proposal, Rung, climb


@dataclass(frozen=True)
class _Numbered:
    """A design that writes its own noise."""

    noise: float

    def write(self, path: Path) -> None:
        path.write_text(str(self.noise))


class _Reader:
    def noise(self, candidate: Path) -> float:
        return float(candidate.read_text())


def _rung(*noises: float, **limits: Any) -> Rung:
    def propose(_: Design, artifact: Path) -> Iterator[Proposal]:
        assert artifact.is_file()
        for noise in noises:
            yield Proposal(cast(Design, _Numbered(noise)), f"to {noise}")

    return Rung("repair", propose, **limits)


def _climbed(folder: Path, *rungs: Rung, start: float = 0.1) -> Climbed:
    shares: list[float] = []
    climbed = climb(
        cast(Design, _Numbered(start)), rungs, cast(Judge, _Reader()), folder / "variant.onnx", shares.append
    )
    assert shares == sorted(shares)
    assert [path.name for path in folder.iterdir()] == ["variant.onnx"]
    assert climbed.artifact.read_text() == str(climbed.noise)
    return climbed


def test_what_helps_is_kept_and_the_next_builds_on_it(tmp_path: Path) -> None:
    climbed = _climbed(tmp_path, _rung(0.05), _rung(0.08), _rung(0.02))
    assert climbed.noise == 0.02
    assert [(step.kept, step.before_db, step.after_db) for step in climbed.steps] == [
        (True, decibels(0.1), decibels(0.05)),
        (False, decibels(0.05), decibels(0.08)),
        (True, decibels(0.05), decibels(0.02)),
    ]


def test_of_several_proposals_the_best_is_kept(tmp_path: Path) -> None:
    climbed = _climbed(tmp_path, _rung(0.09, 0.03, 0.04))
    assert climbed.noise == 0.03
    assert [step.kept for step in climbed.steps] == [False, True, False]


def test_without_a_rung_the_start_is_the_artifact(tmp_path: Path) -> None:
    assert _climbed(tmp_path).noise == 0.1


@pytest.mark.parametrize(("noise", "kept"), [(0.0985, False), (0.0975, True)])
def test_a_gain_that_may_be_chance_is_none(tmp_path: Path, noise: float, kept: bool) -> None:
    assert _climbed(tmp_path, _rung(noise)).steps[0].kept is kept


def test_a_dear_repair_must_be_worth_it(tmp_path: Path) -> None:
    assert _climbed(tmp_path, _rung(0.085, worth=0.2)).noise == 0.1


def test_a_last_resort_is_tried_only_where_it_is_needed(tmp_path: Path) -> None:
    assert _climbed(tmp_path, _rung(0.05, below_db=9.0)).steps == ()


def test_a_last_resort_is_tried_where_it_is_needed(tmp_path: Path) -> None:
    assert _climbed(tmp_path, _rung(0.05, below_db=11.0)).noise == 0.05


def test_an_upload_that_is_met_exactly_needs_no_repair(tmp_path: Path) -> None:
    climbed = _climbed(tmp_path, _rung(0.0), start=0.0)
    assert climbed.noise == 0.0
    assert not climbed.steps[0].kept
