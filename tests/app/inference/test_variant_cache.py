from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import text

from app.errors import UnknownModel
from app.inference.served_variant import ServedVariant
from app.inference.variant_cache import SECONDS, VariantCache
from app.registry import Database, OperationalError
from app.registry.database import ALL, NOTHING


@dataclass(frozen=True)
class Answer:
    """What `resolve` said of `model`; `number` counts the questions."""

    model: str
    number: int


class Registry(Database):
    """Counts what it is asked, and answers with that count."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"sqlite:///{folder / 'registry.sqlite3'}")
        self.asked = 0
        self.away = False
        self.numbers = True
        self.gone = {"nothing"}
        self.now = 100.0

    def resolve(self, name: str, version: str | None) -> ServedVariant:
        self.asked += 1
        if self.away:
            raise OperationalError("SELECT", {}, OSError("refused"))
        if name in self.gone:
            raise UnknownModel(name)
        return cast(ServedVariant, Answer(name.partition("@")[0], self.asked if self.numbers else 0))

    def cache(self) -> VariantCache:
        return VariantCache(self.resolve, self, clock=lambda: self.now)

    def change(self, what: str = ALL) -> None:
        with self.writing(changes=what):
            pass

    def fail(self) -> None:
        with suppress(KeyError), self.writing():
            raise KeyError


def number(variant: ServedVariant | None) -> int | None:
    return None if variant is None else cast(Answer, variant).number


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path)
    yield registry
    registry.close()


def test_a_change_of_one_model_makes_all_of_its_names_old_and_no_other(registry: Registry) -> None:
    cache = registry.cache()
    for name, version in (("m", None), ("m", "1"), ("m@int8", None), ("mm", None)):
        cache.resolve(name, version)
    registry.change("m")
    registry.change(NOTHING)
    assert [cache.get(*name) is None for name in (("m", None), ("m", "1"), ("m@int8", None))] == [True] * 3
    assert cache.get("mm", None) is not None


def test_the_registry_is_asked_once_a_moment_for_each_name(registry: Registry) -> None:
    cache = registry.cache()
    assert cache.get("m", None) is None
    answers = [cache.resolve("m", None), cache.resolve("m", "1"), cache.resolve("m", None)]
    assert [number(each) for each in answers] == [1, 2, 1]
    assert number(cache.get("m", "1")) == 2
    registry.now += SECONDS
    assert cache.get("m", "1") is None
    assert number(cache.resolve("m", None)) == 3


@pytest.mark.parametrize("change", [Registry.change, Registry.fail])
def test_a_change_of_this_process_is_seen_at_once(registry: Registry, change: Callable[[Registry], None]) -> None:
    cache = registry.cache()
    cache.resolve("m", None)
    change(registry)
    assert cache.get("m", None) is None
    assert number(cache.resolve("m", None)) == 2


def test_what_does_not_exist_is_asked_for_again(registry: Registry) -> None:
    cache = registry.cache()
    for _ in range(2):
        with pytest.raises(UnknownModel):
            cache.resolve("nothing", None)
    assert registry.asked == 2


def test_a_commit_during_the_question_makes_the_answer_old(registry: Registry) -> None:
    def changed_meanwhile(name: str, version: str | None) -> ServedVariant:
        registry.change(name)
        return registry.resolve(name, version)

    cache = VariantCache(changed_meanwhile, registry, clock=lambda: registry.now)
    cache.resolve("m", None)
    assert cache.get("m", None) is None


def test_while_the_registry_is_away_what_it_said_last_holds_on(registry: Registry) -> None:
    cache = registry.cache()
    assert not cache.has_any
    cache.resolve("m", None)
    registry.change("another")
    registry.away = True
    registry.now += 3600
    registry.fail()
    assert number(cache.resolve("m", None)) == 1
    assert cache.has_any
    asked = registry.asked
    # Once a moment it is asked again.
    assert number(cache.get("m", None)) == number(cache.resolve("m", None)) == 1
    assert registry.asked == asked
    with pytest.raises(OperationalError):
        cache.resolve("other", None)
    registry.away = False
    registry.now += SECONDS
    assert number(cache.resolve("m", None)) == registry.asked


def test_what_this_process_has_changed_before_the_registry_went_away_is_not_answered_as_it_was(
    registry: Registry,
) -> None:
    cache = registry.cache()
    cache.resolve("m", None)
    registry.change("m")
    registry.away = True
    with pytest.raises(OperationalError):
        cache.resolve("m", None)
    assert not cache.has_any


def test_what_was_found_deleted_is_not_answered_when_the_registry_goes_away(registry: Registry) -> None:
    cache = registry.cache()
    cache.resolve("m", None)
    registry.gone.add("m")
    registry.now += SECONDS
    with pytest.raises(UnknownModel):
        cache.resolve("m", None)
    registry.away = True
    with pytest.raises(OperationalError):
        cache.resolve("m", None)


def test_no_more_than_so_many_are_remembered(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.inference.variant_cache._MOST", 2)
    cache = registry.cache()
    for name in ("a", "b", "a", "c"):
        registry.now += SECONDS
        cache.resolve(name, None)
    registry.now -= SECONDS
    # The one that was asked for longest ago went.
    assert [cache.get(name, None) is not None for name in ("a", "b", "c")] == [True, False, True]


def test_what_is_used_is_refreshed_and_keeps_its_identity(registry: Registry) -> None:
    registry.change()
    cache = registry.cache()
    registry.numbers = False
    variant = cache.resolve("m", None)
    for _ in range(10):
        registry.now += SECONDS * 0.4
        cache.refresh()
        assert cache.get("m", None) is variant
    # Nothing was committed, so nothing was asked.
    assert registry.asked == 1


def test_a_change_of_another_process_is_seen_by_the_refresh(registry: Registry) -> None:
    other = Database(registry.url)
    with other.writing() as session:
        session.execute(text("CREATE TABLE t (x INTEGER)"))
    cache = registry.cache()
    assert number(cache.resolve("m", None)) == 1
    cache.refresh()
    assert number(cache.get("m", None)) == 1
    with other.writing() as session:
        session.execute(text("INSERT INTO t VALUES (1)"))
    other.close()
    cache.get("m", None)
    cache.refresh()
    assert number(cache.get("m", None)) == 2


def test_what_is_not_used_is_not_refreshed(registry: Registry) -> None:
    cache = registry.cache()
    cache.resolve("m", None)
    cache.refresh()
    registry.now += SECONDS
    cache.refresh()
    assert cache.get("m", None) is None


def test_what_was_deleted_leaves_the_cache_at_the_refresh(registry: Registry) -> None:
    cache = registry.cache()
    cache.resolve("m", None)
    registry.gone.add("m")
    registry.change("m")
    cache.refresh()
    assert cache.get("m", None) is None
    assert not cache.has_any


def test_callers_at_the_same_time_see_no_variant_that_is_old(registry: Registry) -> None:
    cache = registry.cache()
    cache.resolve("m", None)
    registry.change("m")
    asked = registry.asked
    with ThreadPoolExecutor(8) as threads:
        numbers = [number(each) for each in threads.map(lambda _: cache.resolve("m", None), range(100))]
    assert all(each is not None and each > asked for each in numbers)
