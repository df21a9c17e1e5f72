"""The two tables of methods name the same ones."""

from app.contracts import methods as offered
from worker.methods import METHODS


def test_what_is_offered_can_be_done_and_the_other_way_round() -> None:
    assert METHODS.keys() == offered.METHODS.keys()
