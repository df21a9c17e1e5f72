"""The client commands, their server replaced and their output kept."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from app import cli
from app.cli import client as commands
from app.cli import job_commands, reports
from app.cli.connection import Connection
from tests.app.cli.answers import Handler, connection

#: (server, *arguments) → how the command ended.
Octet = Callable[..., Result]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    for module in (commands, job_commands):
        monkeypatch.setattr(module, "console", Console(width=160, file=written))
    return written


@pytest.fixture
def octet(monkeypatch: pytest.MonkeyPatch) -> Octet:
    def run(server: Handler, *arguments: str) -> Result:
        @contextmanager
        def connect(_: str) -> Iterator[Connection]:
            yield connection(server)

        for module in (commands, job_commands, reports):
            monkeypatch.setattr(module, "connect", connect)
        return CliRunner().invoke(cli.app, list(arguments))

    return run
