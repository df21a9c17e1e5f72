from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings


def test_defaults_need_no_server(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    settings.make_folders()
    assert settings.registry_url == f"sqlite:///{tmp_path}/home/registry.sqlite3"
    assert settings.celery["broker_url"].startswith("files://")
    assert settings.celery["accept_content"] == ["json"]
    folders = {path.name for path in (tmp_path / "home").iterdir()}
    assert folders == {"mapped", "queue", "scratch"}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_always_psycopg_3(scheme: str) -> None:
    settings = Settings(database_url=f"{scheme}://user@host/db")
    assert settings.registry_url == "postgresql+psycopg://user@host/db"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTET_PORT", "9000")
    monkeypatch.setenv("OCTET_BROKER_URL", "redis://there/0")
    assert Settings().port == 9000
    assert Settings().celery["broker_url"] == "redis://there/0"


def test_a_setting_out_of_range_is_refused() -> None:
    with pytest.raises(ValidationError, match="port"):
        Settings(port=70000)


def test_limits_of_serving_are_read_under_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTET_MODEL_MEMORY", "1000000")
    monkeypatch.setenv("OCTET_MAX_BATCH_ROWS", "1")
    assert Settings().model_memory == 1_000_000
    assert Settings().max_batch_rows == 1
    with pytest.raises(ValidationError, match="max_batch_rows"):
        Settings(max_batch_rows=0)
