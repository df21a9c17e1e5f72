import os
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from kombu.exceptions import ChannelError

from app.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path)
    settings.make_folders()
    return settings


def connection(settings: Settings) -> Connection:
    celery = Celery("test")
    celery.conf.update(settings.celery)
    return celery.connection_for_write()


def send(settings: Settings, *messages: str) -> None:
    with connection(settings) as sender, sender.SimpleQueue("octet") as queue:
        for message in messages:
            queue.put(message)


def received(settings: Settings) -> list[Any]:
    """All that waits, taken by another connection than it was sent by."""
    found = []
    with connection(settings) as receiver, receiver.SimpleQueue("octet") as queue:
        while queue.qsize():
            message = queue.get(timeout=5)
            message.ack()
            found.append(message.payload)
    return found


def files(settings: Settings) -> list[Path]:
    return sorted((settings.home / "queue").iterdir())


def test_messages_come_in_their_order_and_once(settings: Settings) -> None:
    send(settings, "one", "two", "three")
    assert received(settings) == ["one", "two", "three"]
    assert received(settings) == []
    assert files(settings) == []
    assert list(settings.scratch_folder.iterdir()) == []


def test_a_file_that_is_no_message_is_passed_over(settings: Settings) -> None:
    # As an older Octet left one that was killed in the midst of writing.
    (settings.home / "queue" / "0.octet.msg").write_bytes(b"")
    send(settings, "one")
    with connection(settings) as receiver, receiver.SimpleQueue("octet") as queue:
        assert queue.get(timeout=5).payload == "one"
    assert not (settings.home / "queue" / "0.octet.msg").exists()


def test_what_cannot_be_written_is_not_there_in_part(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> int:
        path.write_bytes(text[:10].encode())
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ChannelError, match="No space left"):
        send(settings, "one")
    assert files(settings) == []
    assert list(settings.scratch_folder.iterdir()) == []


def test_a_message_that_another_worker_took_is_passed_over(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    send(settings, "one", "two")
    first, read = files(settings)[0], Path.read_text

    def taken(path: Path) -> str:
        text = read(path)
        if path == first:
            path.unlink()
        return text

    monkeypatch.setattr(Path, "read_text", taken)
    with connection(settings) as receiver, receiver.SimpleQueue("octet") as queue:
        assert queue.get(timeout=5).payload == "two"
