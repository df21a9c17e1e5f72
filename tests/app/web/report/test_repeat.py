"""The commands that repeat a measurement."""

import json
import shlex
from typing import Any

import pytest

from app.web.report.repeat import commands
from tests.app.web.report.reports import ROW, full


def _words(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "))


def test_a_shell_reads_them_as_they_are_meant() -> None:
    found = commands("resnet", ROW | {"variant": "it's int8"}, full("a $name; with 'quotes'"))
    words = _words(found.octet)
    assert words[:4] == ["octet", "quantize", "resnet", "mixed"]
    pairs = dict(zip(words[4::2], words[5::2], strict=True))
    assert pairs["--dataset"] == "a $name; with 'quotes'"
    assert pairs["--variant"] == "it's int8-again"
    assert words.count("--option") == 3
    assert {"seed=7", "point=null"} <= set(words)
    body = json.loads(_words(found.curl)[-1])
    assert body == {
        "model": "resnet",
        "revision": 1,
        "method": "mixed",
        "dataset": "a $name; with 'quotes'",
        "variant": "it's int8-again",
        "options": {"seed": 7, "calibration": "a $name; with 'quotes'", "point": None},
    }


@pytest.mark.parametrize("text", ["true", "7", "[1]", '"x"'])
def test_text_that_reads_as_json_stays_text(text: str) -> None:
    report: dict[str, Any] = {"method": {"name": "int8", "options": {"calibration": text}}}
    (option,) = [word for word in _words(commands("m", ROW, report).octet) if word.startswith("calibration=")]
    assert json.loads(option.removeprefix("calibration=")) == text


def test_the_original_is_evaluated_on_the_same_samples_and_gets_no_label() -> None:
    report = full()
    del report["method"]
    found = commands("resnet", ROW | {"variant": "original", "method": "original"}, report)
    words = _words(found.octet)
    assert words[3] == "evaluate"
    assert {"evaluation_samples=48", "seed=7"} <= set(words)
    assert "--variant" not in words
    assert "variant" not in json.loads(_words(found.curl)[-1])


def test_a_label_stays_within_its_length() -> None:
    words = _words(commands("m", ROW | {"variant": "v" * 63}, {}).octet)
    assert len(words[words.index("--variant") + 1]) == 63
