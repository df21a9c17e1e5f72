"""What the tests of all clients send, and ask of what they get."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.servers import missing

IMAGE = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
ROWS = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)


def strings(*values: bytes) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(values, dtype=np.object_)


#: An array for each input of `types`.
TYPED = {
    "bool": np.array([True, False]),
    **{name: np.array([0, np.iinfo(name).max], name) for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name: np.array([np.iinfo(name).min, 7], name) for name in ("int8", "int16", "int32", "int64")},
    "fp16": np.array([0.5, -65504], np.float16),
    "fp32": np.array([0.1, -1e30], np.float32),
    "fp64": np.array([0.1, 1e300], np.float64),
    "bytes": strings("Straße".encode(), b""),
}


class InLoop:
    """An asyncio client with the face of the other one: each call runs to its end."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = self.loop.run_until_complete(self._opened(opened))

    async def _opened(self, opened: Callable[[], Any]) -> Any:
        return opened()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            return self.loop.run_until_complete(getattr(self.client, name)(*arguments, **named))

        return call

    def close(self) -> None:
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


def perf_analyzer_measures(protocol: str, port: int, options: list[str]) -> None:
    """Has perf_analyzer ask `linear` for a while, and every request answered."""
    if shutil.which("perf_analyzer") is None:
        missing("perf_analyzer")
    command = ["perf_analyzer", "-u", f"127.0.0.1:{port}", "-i", protocol, "-m", "linear", "--shape", "x:1,16"]
    # It calls a measurement that varies by more than so many percent a failure: on a busy machine, every one.
    measure = ["--concurrency-range", "1:8", "-p", "400", "-r", "4", "-s", "100000"]
    ended = subprocess.run([*command, *measure, *options], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Successful request count" in ended.stdout  # the server's own statistics, read and believed
    assert "failed" not in ended.stdout.lower()


def refused(status: str, words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(InferenceServerException, match=words) as caught:
        call()
    assert caught.value.status() in {status, None}
