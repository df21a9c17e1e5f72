"""The worked examples of CONTRIBUTING.md are done in a copy of the code, and their tests pass there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_COPIED = ("app", "worker", "migrations", "tests", "docs", "examples", "pyproject.toml", "README.md", "Makefile")
_BIN = Path(sys.executable).parent
_STEP = re.compile(r"^(Create|Append to|Change) `([^`]+)`")


@dataclass(frozen=True)
class Step:
    """A code block, and what to do with it: `verb` is Create, Append to or Change."""

    verb: str
    path: str
    code: str

    def apply(self, root: Path) -> None:
        target = root / self.path
        match self.verb:
            case "Create":
                assert not target.exists(), f"{self.path} exists already"
                target.write_text(self.code)
            case "Append to":
                target.write_text(f"{target.read_text()}\n\n{self.code}")
            case _:
                lines = self.code.splitlines(keepends=True)
                old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
                # Whole lines: what begins in the middle of one is another line.
                old, new, text = f"\n{old}", f"\n{new}", f"\n{target.read_text()}"
                assert text.count(old) == 1, f"{self.path} has {text.count(old)} places for:\n{self.code}"
                target.write_text(text.replace(old, new).removeprefix("\n"))


def examples() -> dict[str, list[Step]]:
    """The steps of each section that has some, by its heading."""
    sections = re.split(r"^## ", (_ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    found = {section.partition("\n")[0]: list(_steps(section)) for section in sections[1:]}
    return {heading: steps for heading, steps in found.items() if steps}


def _steps(section: str) -> Iterator[Step]:
    verb, path, language, lines = "", "", None, list[str]()
    for line in section.splitlines(keepends=True):
        if language is None and line.startswith("```"):
            language = line[3:].strip()
        elif language is not None and line.startswith("```"):
            if language in {"python", "diff"}:
                yield Step(verb, path, "".join(lines))
            language, lines = None, []
        elif language is not None:
            lines.append(line)
        elif step := _STEP.match(line):
            verb, path = step.groups()


def test_every_seam_has_an_example_with_a_test() -> None:
    found = examples()
    assert [heading.removeprefix("Add a ").removeprefix("Add an ") for heading in found] == [
        "quantization method", "evaluation metric", "dataset format", "blob store", "engine",
    ]  # fmt: skip
    assert all(any("/test_" in step.path for step in steps) for steps in found.values())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code with all examples done."""
    root = tmp_path_factory.mktemp("octet")
    for name in _COPIED:
        source = _ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    for step in _all_steps():
        step.apply(root)
    return root


def _all_steps() -> list[Step]:
    return [step for steps in examples().values() for step in steps]


def _run(copy: Path, command: Sequence[str | Path]) -> None:
    ended = subprocess.run(
        command,
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}{ended.stderr}"


@pytest.mark.e2e
def test_the_tests_of_the_examples_pass(copy: Path) -> None:
    tests = [step.path for step in _all_steps() if "/test_" in step.path]
    _run(copy, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests])


@pytest.mark.slow
def test_the_examples_keep_to_types_layers_and_style(copy: Path) -> None:
    changed, created = (
        sorted({step.path for step in _all_steps() if step.path.endswith(".py") and step.verb in verbs})
        for verbs in (("Create", "Append to", "Change"), ("Create",))
    )
    for command in (
        # Rows of the reader's own may stand where a table's import would have to be sorted in.
        ["ruff", "check", "--ignore", "I001", *changed],
        ["ruff", "check", "--select", "I001", *created],
        ["ruff", "format", "--check", *changed],
        ["mypy"],
        ["lint-imports"],
    ):
        _run(copy, [_BIN / command[0], *command[1:]])
