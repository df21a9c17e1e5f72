import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.supervisor import is_free, start_service
from app.errors import Conflict


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_with_a_listener_is_not_free(taken_port: int) -> None:
    assert not is_free("127.0.0.1", taken_port)
    assert is_free("127.0.0.1", 0)


def test_a_service_on_a_taken_port_is_refused_before_anything_is_made(taken_port: int, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        pytest.raises(Conflict, match=rf"cannot listen on 127.0.0.1:{taken_port}.*--port"),
        start_service(home=home, host="127.0.0.1", port=taken_port),
    ):
        pass
    assert not home.exists()
