"""Engines by name."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from app import engines
from app.engines import ENTRY_POINTS
from app.errors import UnknownEngine


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points as other packages would have them."""
    rows = {"reference": "tests.engine_package.octet_reference:ReferenceEngine", "lost": "octet_lost:LostEngine"}
    points = EntryPoints(EntryPoint(name, value, ENTRY_POINTS) for name, value in rows.items())
    monkeypatch.setattr(engines, "entry_points", lambda **wanted: points.select(**wanted))
    engines.get.cache_clear()


def test_an_engine_is_one_object() -> None:
    assert engines.get("onnxruntime") is engines.get("onnxruntime")


@pytest.mark.usefixtures("installed")
def test_entry_points_of_other_packages_are_rows() -> None:
    assert engines.names() == ["lost", "onnxruntime", "reference"]
    assert engines.get("reference").name == "reference"


@pytest.mark.usefixtures("installed")
def test_an_unknown_engine_is_answered_with_those_that_exist() -> None:
    with pytest.raises(UnknownEngine, match=r"no engine 'none'; there is lost, onnxruntime, reference\."):
        engines.get("none")


@pytest.mark.usefixtures("installed")
def test_an_engine_whose_library_is_missing_says_what_to_install() -> None:
    with pytest.raises(UnknownEngine, match=r"engine 'lost' needs the module 'octet_lost'.*: pip install octet_lost"):
        engines.get("lost")
