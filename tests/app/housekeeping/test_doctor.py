from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from app.blobs import open_store
from app.confinement import Confinement
from app.contracts import methods
from app.housekeeping import doctor
from app.housekeeping.doctor import Finding, State, examine
from app.registry import Database, jobs, models, workers
from app.registry.tables import Job, now
from app.settings import Settings
from tests.app.housekeeping.conftest import Home

pytestmark = pytest.mark.e2e


@pytest.fixture
def settings(home: Home, database: Database) -> Settings:
    return Settings(home=home.scratch.parent, database_url=database.url)


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(settings)}


@pytest.fixture
def worker(database: Database) -> None:
    with database.writing() as session:
        workers.beat(session, "one", concurrency=2, running=1, forget_after_seconds=60)


@pytest.mark.usefixtures("worker")
def test_a_service_that_is_well_has_no_problem(settings: Settings, upload: Callable[[str, bytes], str]) -> None:
    upload("resnet", b"weights")
    findings = found(settings)
    assert {finding.what: finding for finding in findings.values() if finding.state is State.problem} == {}
    assert set(findings) == {
        "versions", "cpu", "confinement", "engine", "open files", "disk", "broker",
        "registry", "blobs", "clock", "workers", "jobs",
    }  # fmt: skip
    assert findings["blobs"].told == "1"
    assert findings["workers"].told == "1 alive, 1 of 2 slots at work"
    assert findings["clock"].state is State.ok


def test_an_engine_that_is_not_installed_is_a_problem(settings: Settings) -> None:
    assert found(settings)["engine"].state is State.ok
    finding = found(settings.model_copy(update={"engine": "none"}))["engine"]
    assert (finding.state, "there is no engine 'none'" in finding.told) == (State.problem, True)


def test_a_library_of_custom_operators_that_cannot_be_loaded_is_a_problem(settings: Settings) -> None:
    broken = settings.model_copy(update={"custom_operators": "com.example=/absent.so"})
    finding = found(broken)["custom operators"]
    assert (finding.state, "/absent.so" in finding.told) == (State.problem, True)


@pytest.mark.parametrize(
    ("offered", "state"), [(Confinement(7, True), State.ok), (Confinement(0, True), State.warning)]
)
def test_what_models_are_confined_by_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, offered: Confinement, state: State
) -> None:
    monkeypatch.setattr(doctor, "confinement", lambda: offered)
    finding = found(settings)["confinement"]
    assert (finding.state, finding.told) == (state, str(offered))


def test_without_a_worker_jobs_wait(
    settings: Settings, database: Database, upload: Callable[[str, bytes], str]
) -> None:
    upload("resnet", b"weights")
    with database.writing() as session:
        model = models.find(session, "resnet", for_update=True)
        revision = models.find_revision(session, model)
        jobs.submit(session, model=model, revision=revision, method=methods.find("fp16"), options={}, dataset=None)
        session.execute(update(Job).values(created_at=now() - timedelta(seconds=100)))
    findings = found(settings)
    assert (findings["workers"].state, findings["jobs"].state) == (State.warning, State.warning)
    assert "waited for 10" in findings["jobs"].told
    assert "octet worker" in findings["workers"].advice


def test_missing_and_unnamed_blobs_are_told(
    settings: Settings, home: Home, upload: Callable[[str, bytes], str]
) -> None:
    lost = upload("resnet", b"weights")
    home.new_blob(b"nobody's")
    assert "octet gc" in found(settings)["blobs"].advice
    open_store(settings).delete(lost)
    blobs = found(settings)["blobs"]
    assert blobs.state is State.problem
    assert lost in blobs.told


def test_a_registry_that_was_not_migrated_is_told_with_the_command(tmp_path: Path) -> None:
    findings = found(Settings(home=tmp_path / "home"))
    assert findings["registry"].state is State.problem
    assert "octet migrate" in findings["registry"].told
    assert "jobs" not in findings


def test_what_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    urls = {
        "database_url": "postgresql://octet:geheim@127.0.0.1:1/octet",
        "broker_url": "redis://:geheim@127.0.0.1:1",
    }
    findings = found(Settings(home=tmp_path / "home", **urls))
    assert (findings["registry"].state, findings["broker"].state) == (State.problem, State.problem)
    assert "does not answer" in findings["registry"].told
    assert "geheim" not in str(findings)


def test_a_disk_that_fills_up_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LOW_BYTES", 1 << 62)
    assert found(settings)["disk"].state is State.warning
    monkeypatch.setattr(doctor, "_FULL_BYTES", 1 << 61)
    assert found(settings)["disk"].state is State.problem


def test_clocks_that_disagree_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "clock", lambda _: now() + timedelta(seconds=90))
    clock = found(settings)["clock"]
    assert clock.state is State.warning
    assert "-90 s" in clock.told


def test_kept_folders_of_failed_jobs_are_counted(settings: Settings) -> None:
    folder = settings.home / "failed-jobs" / ("a" * 32)
    folder.mkdir(parents=True)
    (folder / "original.onnx").write_bytes(bytes(2 * 1024**2))
    finding = found(settings.model_copy(update={"keep_failed_jobs": 3}))["failed jobs"]
    assert finding.state is State.ok
    assert "1 of at most 3 folders" in finding.told
    assert "2.0 MiB" in finding.told
