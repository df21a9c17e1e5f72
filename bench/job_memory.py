"""Memory and time of jobs on a large model: `python bench/job_memory.py [--gigabytes 2] [--methods fp16 dynamic …]`.

Builds a chain of FP32 matrix products with its weights beside it, runs the process of a job on it for each method, and
samples that process. Anonymous memory is what the job needs; file-backed memory are pages of mapped files, which the
kernel takes back when it needs them. Address space is what the job's limit (`OCTET_JOB_MEMORY_BYTES`) counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from app.contracts.job_spec import JobSpec

MIB = 1024**2
MODEL, DATA, DATASET = "large.onnx", "large.onnx.data", "samples.npz"
SIDE = 4096
SAMPLES = 48

#: Options by method, beside what every job needs. GPTQ and the repairs of INT8 take minutes on a model of this size.
OPTIONS: dict[str, dict[str, Any]] = {
    "fp16": {},
    "dynamic": {},
    "int4": {"algorithm": "rtn"},
    "int8": {"repair": False, "calibration_samples": 16},
}
NEEDS_DATASET = {"int8"}


def write_model(folder: Path, size_bytes: int) -> None:
    """Write a model of `size_bytes` of weights into `folder`.

    Products of 4096 by 4096, each with a bias and a Relu between them: 64 MiB of weights a layer.
    """
    layers = max(1, round(size_bytes / (SIDE * SIDE * 4)))
    random = np.random.default_rng(0)
    nodes, weights = [], []
    with (folder / DATA).open("wb") as file:
        for layer in range(layers):
            for name, shape in ((f"w{layer}", (SIDE, SIDE)), (f"b{layer}", (SIDE,))):
                tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
                tensor.data_location = TensorProto.EXTERNAL
                values = random.standard_normal(shape, dtype=np.float32) * np.float32((2 / SIDE) ** 0.5)
                for key, value in (("location", DATA), ("offset", file.tell()), ("length", values.nbytes)):
                    tensor.external_data.add(key=key, value=str(value))
                file.write(values)
                weights.append(tensor)
            nodes += [
                helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"p{layer}"], f"product{layer}"),
                helper.make_node("Add", [f"p{layer}", f"b{layer}"], [f"s{layer}"], f"sum{layer}"),
                helper.make_node("Relu", [f"s{layer}"], [f"x{layer + 1}"], f"relu{layer}"),
            ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, ["batch", SIDE])],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, ["batch", SIDE])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / MODEL).write_bytes(model.SerializeToString())


def write_dataset(folder: Path) -> None:
    np.savez(folder / DATASET, x0=np.random.default_rng(1).standard_normal((SAMPLES, SIDE), dtype=np.float32))


@dataclass
class Peaks:
    """The highest of each kind of memory, in KiB."""

    resident: int = 0
    anonymous: int = 0

    def add(self, status: dict[str, int]) -> None:
        self.resident = max(self.resident, status.get("VmRSS", 0))
        self.anonymous = max(self.anonymous, status.get("RssAnon", 0))


class Watch(threading.Thread):
    """Samples the memory of a process each 10 ms, by the stage of its job."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{process}/status")
        self.stage = "start"
        self.by_stage: dict[str, Peaks] = defaultdict(Peaks)
        self.address_space = 0

    def run(self) -> None:
        while True:
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            status = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines)
                      if value.endswith(" kB")}  # fmt: skip
            if not status:
                return
            self.by_stage[self.stage].add(status)
            self.address_space = max(self.address_space, status.get("VmPeak", 0))
            time.sleep(0.01)


def run_job(folder: Path, method: str) -> str:
    """Do one job, and return its row of the table."""
    common = {"evaluation_samples": 16, "seed": 0, "max_accuracy_drop": 1.0, "min_speedup": None}
    JobSpec(
        method=method,
        options=common | OPTIONS[method],
        model=MODEL,
        model_digest="bench",
        dataset=DATASET if method in NEEDS_DATASET else None,
        engine="onnxruntime",
        intra_op_threads=1,
    ).write(folder)
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.job_process", str(folder), "WARNING"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process.pid)
    watch.start()
    last: dict[str, Any] = {}
    assert process.stdout is not None
    for line in process.stdout:
        last = json.loads(line)
        watch.stage = last.get("stage", watch.stage)
    _, code, usage = os.wait4(process.pid, 0)
    if "outcome" not in last:
        sys.exit(f"{method}: {last.get('error', f'ended with {code}')}")
    stages = watch.by_stage
    cells = [
        method,
        f"{usage.ru_maxrss / 1024:,.0f}",
        f"{max(peaks.anonymous for peaks in stages.values()) / 1024:,.0f}",
        f"{watch.address_space / 1024:,.0f}",
        ", ".join(f"{stage} {peaks.anonymous / 1024:,.0f}" for stage, peaks in stages.items()),
        f"{usage.ru_utime + usage.ru_stime:.0f}",
        f"{time.monotonic() - start:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gigabytes", type=float, default=2.0)
    arguments.add_argument("--methods", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        originals = Path(name)
        write_model(originals, round(given.gigabytes * 2**30))
        write_dataset(originals)
        size = (originals / DATA).stat().st_size
        print(f"a model of {size / MIB:,.0f} MiB; memory in MiB\n")
        print("| method | peak RSS | anonymous | address space | anonymous, by stage | CPU s | wall s |")
        print("|---|---|---|---|---|---|---|")
        for method in given.methods:
            with tempfile.TemporaryDirectory(dir=originals) as job:
                # As the worker has it: a job's files are links into the blob store.
                for file in originals.iterdir():
                    if file.is_file():
                        (Path(job) / file.name).hardlink_to(file)
                row = run_job(Path(job), method)
            print(row, flush=True)


if __name__ == "__main__":
    main()
