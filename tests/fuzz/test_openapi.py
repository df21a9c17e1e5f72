"""A short look at each operation of the document, the same each time. `make fuzz` is the long one."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.e2e.browsing import artifacts
from tests.fuzz.openapi import explore, furnished
from tests.servers import missing

#: The document's own examples, what lies at the edges of its schemas, and some of what lies anywhere.
SHORT = (
    *("--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--seed", "1"),
    "--generation-deterministic",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_operation_answers_as_the_document_says(tmp_path: Path) -> None:
    if find_spec("schemathesis") is None:
        missing("schemathesis")
    with furnished(tmp_path) as there:
        done = explore(there, artifacts(tmp_path) / "openapi", SHORT)
        assert there.still_answers()
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    selected, tested = re.search(r"Selected: (\d+)/\d+\s+Tested: (\d+)", done.stdout).groups()  # type: ignore[union-attr]
    assert selected == tested
    assert int(tested) > 60
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > 1000
