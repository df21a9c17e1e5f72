import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.serving.figures import Figures, of_this_process, summed
from app.serving.pool import Artifact
from app.serving.siblings import Siblings
from app.serving.statistics import ComputeTime, Statistics, Total


class Loaded:
    """A pool of which no more is asked than what it has."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = {Artifact("onnxruntime", digest): size for digest, size in sizes.items()}

    def loaded_bytes(self) -> dict[Artifact, int]:
        return self.sizes

    def resident_bytes(self) -> int:
        return 5

    def crashes(self) -> dict[Artifact, int]:
        return dict.fromkeys(self.sizes, 2)


def figures(rows: int, **sizes: int) -> Figures:
    statistics = Statistics()
    statistics.record(("m", 1), rows=rows, queues_ns=[5], compute=ComputeTime(1, 10, 1))
    return of_this_process(statistics, Loaded(**sizes))  # type: ignore[arg-type]


def test_figures_come_back_from_json_as_they_were() -> None:
    said = figures(3, a=7)
    assert Figures.from_json(said.to_json()) == said
    with pytest.raises(ValueError, match="JSON"):
        Figures.from_json(b"{")


def test_figures_of_several_processes_are_summed() -> None:
    both = summed([figures(3, a=7, b=1), figures(4, a=8)])
    assert both.processes == 2
    assert both.loaded_bytes == {Artifact("onnxruntime", "a"): 15, Artifact("onnxruntime", "b"): 1}
    tally = both.tallies["m", 1]
    assert (tally.rows, tally.executions, tally.queue) == (7, 2, Total(2, 10))
    assert both.resident_bytes > figures(1).resident_bytes
    assert both.crashes == {Artifact("onnxruntime", "a"): 4, Artifact("onnxruntime", "b"): 2}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's name may have 107 characters at most."""
    with TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def heard(siblings: Siblings) -> list[bytes]:
    async def ask() -> list[bytes]:
        await siblings.start()
        try:
            return await asyncio.to_thread(siblings.heard)
        finally:
            await siblings.stop()

    return asyncio.run(ask())


class Other:
    """Another process, as far as its socket goes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.sock"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))

    def listen(self) -> None:
        self._socket.listen()

    def answer(self, said: bytes) -> None:
        with self._socket.accept()[0] as asking:
            asking.sendall(said)

    def close(self) -> None:
        self._socket.close()


def test_each_hears_the_others_and_not_itself(folder: Path) -> None:
    others = [Other(folder, name) for name in ("1", "2")]
    for other in others:
        other.listen()

    async def ask() -> list[bytes]:
        answers = [asyncio.to_thread(other.answer, other.path.stem.encode() * 200_000) for other in others]
        return (await asyncio.gather(asyncio.to_thread(heard, Siblings(folder, lambda: b"me")), *answers))[0]

    assert asyncio.run(ask()) == [b"1" * 200_000, b"2" * 200_000]
    for other in others:
        other.close()


def test_what_a_process_says_reaches_who_asks(folder: Path) -> None:
    async def ask() -> bytes:
        siblings = Siblings(folder, lambda: b"me" * 100_000)
        await siblings.start()
        (path,) = folder.iterdir()
        reader, writer = await asyncio.open_unix_connection(path)
        said = await reader.read()
        writer.close()
        await siblings.stop()
        return said

    assert asyncio.run(ask()) == b"me" * 100_000
    assert list(folder.iterdir()) == []


def test_one_that_was_killed_is_left_out_and_cleared_away(folder: Path) -> None:
    dead = Other(folder, "1")
    dead.close()
    assert heard(Siblings(folder, lambda: b"me")) == []
    assert not dead.path.exists()


def test_who_is_alone_hears_nobody() -> None:
    assert heard(Siblings(None, lambda: b"me")) == []
