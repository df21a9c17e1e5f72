import _ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import custom_operators
from app.confinement import Grant
from app.errors import Invalid
from tests.custom_operators import LIBRARY


@pytest.fixture(autouse=True)
def nothing_allowed() -> Iterator[None]:
    yield
    custom_operators.allow({})


def test_domains_are_listed_each_with_its_library() -> None:
    assert custom_operators.listed("") == {}
    assert custom_operators.listed(f" a.b = {LIBRARY}, c={LIBRARY},") == {"a.b": LIBRARY, "c": LIBRARY}


@pytest.mark.parametrize("setting", ["a.b", "a.b=", "=/lib.so", "a.b=operators.so", f"a.b={LIBRARY},c"])
def test_an_entry_of_another_form_is_refused_with_the_right_one(setting: str) -> None:
    with pytest.raises(Invalid, match=r"domain=/path/of/library\.so"):
        custom_operators.listed(setting)


def test_what_is_no_library_of_operators_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "operators.so"
    text.write_text("none")
    for path, reason in (
        (tmp_path / "absent.so", "cannot be loaded"),
        (text, "cannot be loaded"),
        (Path(_ctypes.__file__), "no RegisterCustomOps"),
    ):
        with pytest.raises(Invalid, match=reason) as caught:
            custom_operators.listed(f"a.b={path}")
        assert str(path) in caught.value.detail


def test_what_a_process_allows_it_grants_to_those_that_it_confines() -> None:
    custom_operators.allow({"a.b": LIBRARY})
    assert Grant.from_json(Grant(None).to_json()).operators == {"a.b": LIBRARY}
    custom_operators.allow({})
    assert Grant(None).operators == {}
