"""How much memory the gateway takes for one big upload: `python bench/upload_memory.py [--gigabytes 1]`.

Starts a gateway of its own, uploads a model of that size, and samples the gateway's resident memory meanwhile. The
process that inspects the upload is another one, and is reported apart.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper

MIB = 1024**2


def big_model(path: Path, size_bytes: int) -> None:
    """A chain of MatMul, 64 MiB of weights each."""
    side = 4096
    count = max(1, round(size_bytes / (side * side * 4)))
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.standard_normal((side, side), dtype=np.float32), f"w{i}") for i in range(count)
    ]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(count)]
    graph = helper.make_graph(
        nodes,
        "big",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, ["batch", side])],
        [helper.make_tensor_value_info(f"x{count}", TensorProto.FLOAT, ["batch", side])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class Watch(threading.Thread):
    """The highest resident memory of a process, and of its children, sampled each 10 ms."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._done = threading.Event()
        self.peak = process.memory_info().rss
        self.children_peak = 0

    def run(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, self._process.memory_info().rss)
            for child in self._process.children(recursive=True):
                try:
                    self.children_peak = max(self.children_peak, child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    def stop(self) -> None:
        self._done.set()
        self.join()


def measure(folder: Path, size_bytes: int) -> None:
    model = folder / "model.onnx"
    big_model(model, size_bytes)
    home, port = folder / "home", 18431
    options = ["--host", "127.0.0.1", "--port", str(port), "--grpc-port", "0"]
    service = subprocess.Popen([sys.executable, "-m", "app.cli", "serve", "--home", str(home), *options])
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600)
    try:
        while True:
            try:
                client.get("/v2/health/ready").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        gateway = next(p for p in psutil.Process(service.pid).children() if "gateway" in p.cmdline())
        before = gateway.memory_info().rss
        watch = Watch(gateway)
        watch.start()
        started = time.perf_counter()
        with model.open("rb") as file:
            answer = client.post("/api/v1/models", files={"file": ("model.onnx", file)}, data={"name": "big"})
        seconds = time.perf_counter() - started
        watch.stop()
        print(f"upload of {model.stat().st_size / MIB:.0f} MiB: status {answer.status_code} in {seconds:.1f} s")
        rise = (watch.peak - before) / MIB
        print(f"gateway before {before / MIB:.1f} MiB, peak {watch.peak / MIB:.1f} MiB: +{rise:.1f} MiB")
        print(f"inspecting process, peak {watch.children_peak / MIB:.1f} MiB")
    finally:
        service.terminate()
        service.wait(40)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch), int(parser.parse_args().gigabytes * 1024**3))
