from typing import Any, cast

import pytest

from app.errors import UnknownModel
from app.inference.dataplane import Served
from app.inference.recent import SECONDS, Recent
from app.registry import Database


class Registry:
    """Counts what it is asked, and answers with that count."""

    def __init__(self) -> None:
        self.commits = 0
        self.asked = 0
        self.now = 100.0

    def resolve(self, name: str, version: str | None) -> Served:
        self.asked += 1
        if name == "nothing":
            raise UnknownModel(name)
        return cast(Served, self.asked)

    def recent(self) -> Recent:
        return Recent(self.resolve, cast(Database, self), clock=lambda: self.now)


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_one_model_is_forgotten_by_all_of_its_names_and_no_other(registry: Registry) -> None:
    recent = registry.recent()
    for name, version in (("m", None), ("m", "1"), ("m@int8", None), ("mm", None)):
        recent.resolve(name, version)
    recent.forget("m")
    assert [recent.remembered(*name) is None for name in (("m", None), ("m", "1"), ("m@int8", None))] == [True] * 3
    assert recent.remembered("mm", None) is not None


def test_the_registry_is_asked_once_a_moment_for_each_name(registry: Registry) -> None:
    recent = registry.recent()
    assert recent.remembered("m", None) is None
    answers: list[Any] = [recent.resolve("m", None), recent.resolve("m", "1"), recent.resolve("m", None)]
    assert answers == [1, 2, 1]
    assert recent.remembered("m", "1") == 2
    registry.now += SECONDS
    assert recent.remembered("m", "1") is None
    assert recent.resolve("m", None) == 3


def test_a_change_of_this_process_is_seen_at_once(registry: Registry) -> None:
    recent = registry.recent()
    recent.resolve("m", None)
    registry.commits += 1
    assert recent.remembered("m", None) is None
    assert recent.resolve("m", None) == 2


def test_what_does_not_exist_is_asked_for_again(registry: Registry) -> None:
    recent = registry.recent()
    for _ in range(2):
        with pytest.raises(UnknownModel):
            recent.resolve("nothing", None)
    assert registry.asked == 2


def test_a_commit_during_the_question_makes_the_answer_old(registry: Registry) -> None:
    def changed_meanwhile(name: str, version: str | None) -> Served:
        registry.commits += 1
        return registry.resolve(name, version)

    recent = Recent(changed_meanwhile, cast(Database, registry), clock=lambda: registry.now)
    recent.resolve("m", None)
    assert recent.remembered("m", None) is None
