"""The container files, without a container engine; `tests/e2e/test_compose_commands.py` runs what they say."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["migrate", "gateway", "worker"]


def _check_against_schema(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_compose_file_is_valid_by_the_compose_schema() -> None:
    done = _check_against_schema(ROOT / "docker-compose.yml")
    assert done.returncode == 0, done.stdout


def test_the_schema_check_can_fail(tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text((ROOT / "docker-compose.yml").read_text().replace("healthcheck:", "healthchek:"))
    assert _check_against_schema(broken).returncode != 0


@pytest.mark.parametrize("name", OURS)
def test_our_services_name_settings_that_exist_and_share_one_home(name: str) -> None:
    environment = SERVICES[name]["environment"]
    known = {f"OCTET_{field.upper()}" for field in Settings.model_fields}
    assert set(environment) <= known
    assert {"OCTET_HOME", "OCTET_DATABASE_URL", "OCTET_BROKER_URL"} <= set(environment)
    assert SERVICES[name]["volumes"] == [f"octet:{environment['OCTET_HOME']}"]
    assert SERVICES[name]["command"][0] == "octet"


def test_all_that_stays_up_has_a_health_check_and_is_waited_for() -> None:
    for name in ("gateway", "worker", "redis", "postgres"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
        assert SERVICES[name]["restart"] == "unless-stopped"
    for name in ("gateway", "worker"):
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }


def test_only_the_gateway_is_published_and_on_loopback_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"gateway": ["127.0.0.1:8000:8000", "127.0.0.1:8001:8001"]}


def test_the_image_has_two_stages_and_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert len([line for line in lines if line.startswith("FROM ")]) == 2
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user != "root"
    created = next(line for line in lines if "useradd" in line)
    assert re.search(rf"--uid 1\d{{4}}\b.*\b{user}\b", created)


def test_the_installed_package_holds_all_that_it_needs_at_run_time(tmp_path: Path) -> None:
    """Assets and migrations are no Python modules: a build that forgets them works in a checkout only."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("app", "worker", "migrations"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import setuptools.build_meta as b; b.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("octet-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(source))
        for name in ("app", "worker", "migrations")
        for path in (source / name).rglob("*")
        if path.is_file()
    }
    assert expected <= held, sorted(expected - held)
