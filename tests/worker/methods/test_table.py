"""Each row of the table of methods has its file, and each file its row."""

import inspect
import pkgutil

import pytest

from app.contracts.methods import METHODS, OFFERED, Method
from worker import methods


def test_each_method_has_a_file_and_each_file_a_method() -> None:
    files = {module.name for module in pkgutil.iter_modules(methods.__path__)} - {"method"}
    assert files == METHODS.keys()
    for name in METHODS:
        assert list(inspect.signature(methods.find(name)).parameters) == ["task"]


@pytest.mark.parametrize("method", OFFERED.values(), ids=OFFERED)
def test_options_that_a_row_names_are_counts_of_samples(method: Method) -> None:
    for name in method.reserves:
        assert method.options.model_fields[name].annotation is int
