"""A whole Octet in one process: gateway, registry, and a worker whose jobs run in this process too."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from rich.console import Console
from typer.testing import CliRunner

from app import cli
from app.blobs import open_store
from app.cli import client as commands
from app.cli import reports
from app.cli.connection import Connection
from app.contracts.job_spec import JobSpec
from app.registry import Database, jobs
from app.settings import Settings
from tests.app.cli.answers import connection
from tests.worker.runs import Messages, child
from worker import pipeline, runner
from worker.channel import Channel
from worker.job_progress import job_progress
from worker.runner import Runner


class Octet:
    """Rows that a test puts into tables are seen by all of it."""

    def __init__(self, client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = client
        self._settings = settings
        self._patch = monkeypatch

    def work(self) -> list[dict[str, Any]]:
        """Do all jobs that are queued; returns what their processes would have sent.

        What a job raises is raised here, so that a debugger shows where.
        """
        sent: list[dict[str, Any]] = []
        raised: list[Exception] = []

        def play(folder: Path) -> Messages:
            lines: list[str] = []
            channel = Channel(_Lines(lines))
            spec = JobSpec.read(folder)
            try:
                outcome = pipeline.run(spec, folder, job_progress(channel, spec.method))
            except Exception as error:  # noqa: BLE001 - raised again by the caller
                raised.append(error)
                channel.send({"error": repr(error)})
            else:
                channel.send({"outcome": outcome.model_dump(mode="json")})
            messages = [json.loads(line) for line in lines]
            sent.extend(messages)
            yield from messages

        self._patch.setattr(runner, "Child", child(play))
        database = Database(self._settings.registry_url)
        try:
            with database.reading() as session:
                queued = [job.id for job in jobs.listed(session) if job.state == "queued"]
            for job_id in queued:
                Runner(self._settings, database, open_store(self._settings)).run(job_id)
        finally:
            database.close()
        if raised:
            raise raised[0]
        return sent

    def command(self, *arguments: str) -> str:
        """What the command line prints, on a wide terminal."""
        written = io.StringIO()
        self._patch.setattr(commands, "console", Console(width=200, file=written))
        for module in (commands, reports):
            self._patch.setattr(module, "connect", self._connect)
        ended = CliRunner().invoke(cli.app, list(arguments))
        assert ended.exit_code == 0, f"{ended.output}{written.getvalue()}{ended.exception!r}"
        return written.getvalue()

    @contextmanager
    def _connect(self, _: str) -> Iterator[Connection]:
        yield connection(self._forward)

    def _forward(self, request: httpx.Request) -> httpx.Response:
        # The client's own host is the one that the gateway answers to.
        sent = {name: value for name, value in request.headers.items() if name != "host"}
        path = request.url.raw_path.decode()
        answer = self.client.request(request.method, path, headers=sent, content=request.read())
        headers = {name: value for name, value in answer.headers.items() if name == "content-type"}
        return httpx.Response(answer.status_code, headers=headers, content=answer.content)


class _Lines:
    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append
