"""A package installed for the time of a test, as `pip install` leaves it: confined processes read nothing else."""

import shutil
import sysconfig
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def installed(package: Path) -> Iterator[None]:
    """Install the modules and the entry points of `package`, a folder with a `pyproject.toml`."""
    site = Path(sysconfig.get_path("purelib"))
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    modules = [site / module.name for module in package.glob("*.py") if module.name != "__init__.py"]
    try:
        metadata.mkdir(exist_ok=True)
    except OSError as error:
        pytest.skip(f"installing a package needs a virtual environment that can be written to: {error}")
    try:
        for module in modules:
            shutil.copy(package / module.name, module)
        facts = {"Metadata-Version": "2.1", "Name": project["name"], "Version": project["version"]}
        (metadata / "METADATA").write_text("".join(f"{name}: {value}\n" for name, value in facts.items()))
        lines = []
        for group, points in project["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        yield
    finally:
        shutil.rmtree(metadata)
        for module in modules:
            module.unlink(missing_ok=True)
