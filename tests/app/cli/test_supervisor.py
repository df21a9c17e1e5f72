import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.supervisor import check_grpc_port, grpc_port_beside, is_free, start_service
from app.errors import Conflict
from app.settings import Settings


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


def test_a_taken_port_for_grpc_is_refused_too(taken_port: int, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        pytest.raises(Conflict, match=rf"cannot listen on 127.0.0.1:{taken_port}.*--grpc-port or OCTET_GRPC_PORT"),
        start_service(home=home, host="127.0.0.1", port=0, grpc_port=taken_port),
    ):
        pass
    assert not home.exists()
    check_grpc_port("127.0.0.1", 0)


def test_beside_a_gateway_on_any_free_port_grpc_is_served_only_where_it_is_named() -> None:
    assert grpc_port_beside(8000, Settings()) == 8001
    assert grpc_port_beside(0, Settings()) == 0
    assert grpc_port_beside(0, Settings(grpc_port=9001)) == 9001
    assert grpc_port_beside(8000, Settings(grpc_port=0)) == 0
