"""Load from `wrk`, which costs a request less than a sender in Python does."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contest.processes import Absent

_SCRIPT = """
wrk.method = "POST"
wrk.body = io.open("{body}", "rb"):read("*a")
{headers}
function done(summary, latency, requests)
  io.stderr:write(string.format(
    '{{"requests": %d, "us": %d, "p50_us": %.0f, "p99_us": %.0f, "errors": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
      + summary.errors.timeout))
end
"""
_RESULT = re.compile(r"^\{.*\}$", re.MULTILINE)


@dataclass(frozen=True)
class Load:
    """What one run of wrk measured. `errors` counts answers other than 2xx too."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def check_installed() -> None:
    """Raises `Absent`, with how to install it."""
    if shutil.which("wrk") is None:
        raise Absent("wrk is not installed: apt-get install wrk, or brew install wrk")


class Wrk:
    """Sends one request again and again, from one thread on the given cores."""

    def __init__(self, folder: Path, name: str, request: bytes, cores: Collection[int]) -> None:
        """`request`: head and body, as they go over the wire."""
        head, _, body = request.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        self._path = line.split(" ")[1]
        self._cores = cores
        self._script = folder / f"{name}.lua"
        content = folder / f"{name}.body"
        content.write_bytes(body)
        pairs = (field.split(": ", 1) for field in fields)
        headers = [
            f'wrk.headers["{name}"] = "{value}"'
            for name, value in pairs
            if name.lower() not in {"host", "content-length", "connection"}
        ]
        self._script.write_text(_SCRIPT.format(body=content, headers="\n".join(headers)))

    def run(self, port: int, connections: int, seconds: int) -> Load:
        """Raises `Absent` where wrk says nothing."""
        url = f"http://127.0.0.1:{port}{self._path}"
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(self._script), url],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=partial(os.sched_setaffinity, 0, self._cores),
        )
        found = _RESULT.search(done.stderr)
        if found is None:
            raise Absent(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
        result = json.loads(found[0])
        return Load(
            result["requests"],
            result["requests"] / (result["us"] / 1e6),
            result["p50_us"] / 1e3,
            result["p99_us"] / 1e3,
            result["errors"],
        )
