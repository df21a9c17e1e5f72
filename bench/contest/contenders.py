"""Who takes part: Octet, and what a user would otherwise run, each in an environment of its own."""

import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime

from contest import wire
from contest.cases import SAMPLES, Case
from contest.load import Exchange, drive
from contest.processes import Absent, Server

_PEERS = Path(__file__).parent / "peers"
_INSTALL_SECONDS = 900


@dataclass(frozen=True)
class Row:
    """A form in which a contender is asked. `path` has `{model}` and `{variant}`; `models`: only those, or all."""

    title: str
    wire: wire.Wire
    path: str
    models: tuple[str, ...] = ()

    def takes(self, case: Case) -> bool:
        return not self.models or case.model in self.models

    def exchanges(self, case: Case) -> list[Exchange]:
        path = self.path.format(model=case.model, variant=case.variant)
        return [self.wire(case, path, number) for number in range(SAMPLES)]


OCTET = (
    Row("Octet", wire.oip_binary, "/v2/models/{model}/versions/{variant}/infer"),
    Row("Octet, JSON", wire.oip_json, "/v2/models/{model}/versions/{variant}/infer", models=("mlp",)),
)


@dataclass(frozen=True)
class Peer:
    """One environment, and how to serve in it.

    `command`: after its environment's `bin/`, with `{port}`, `{folder}` and the number of `{cores}`, run in the folder
    of its program. `python`: requests pass through Python code of its own. `hint`: what it may lack where it does not
    start.
    """

    name: str
    packages: tuple[str, ...]
    command: str
    row: Row
    environment: Mapping[str, str] = field(default_factory=dict)
    python: bool = True
    hint: str = ""

    def install(self, cache: Path) -> None:
        """An environment with the very versions named here, unless it is there; raises `Absent`."""
        wanted = [*self.packages, f"onnxruntime=={onnxruntime.__version__}"]
        stamp = cache / self.name / "octet-bench.txt"
        if stamp.exists() and stamp.read_text().split() == wanted:
            return
        print(f"installing {', '.join(wanted)} in {stamp.parent}", file=sys.stderr, flush=True)
        install = [str(stamp.parent / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet", *wanted]
        for command in ([sys.executable, "-m", "venv", "--clear", str(stamp.parent)], install):
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
            except subprocess.CalledProcessError as error:
                lines = [line for line in error.stderr.splitlines() if "ERROR" in line] or error.stderr.splitlines()
                raise Absent(f"not installed: {' '.join(lines)[-400:]}") from error
            except subprocess.TimeoutExpired as error:
                raise Absent(f"not installed within {_INSTALL_SECONDS} s") from error
        stamp.write_text("\n".join(wanted))

    def server(self, cache: Path, models: Path, port: int, cores: Collection[int], case: Case, log: Path) -> Server:
        """Its server for all ONNX files of `models`, not started yet; `case` is what it must answer to be ready."""
        binaries = cache / self.name / "bin"
        first, *rest = shlex.split(self.command.format(port=port, folder=models, cores=len(cores)))
        exchanges = self.row.exchanges(case)
        home = log.with_suffix("")
        home.mkdir(exist_ok=True)
        variables = {name: value.format(folder=models, home=home) for name, value in self.environment.items()}
        return Server(
            [str(binaries / first), *rest],
            cores=cores,
            log=log,
            probe=lambda: answers(port, exchanges),
            environment=variables | {"PYTHONPATH": str(_PEERS), "TMPDIR": str(home)},
            folder=_PEERS,
        )


def answers(port: int, exchanges: Sequence[Exchange]) -> bool:
    """Whether requests are answered, and rightly."""
    return not drive(port, exchanges[:1], 1, seconds=0, warmup=0).errors


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "litserve",
            ("litserve==0.2.19",),
            "python serve_litserve.py {port} {folder} {cores}",
            Row("LitServe", wire.base64_json, "/{model}"),
        ),
        Peer(
            "mlserver",
            ("mlserver==1.7.1",),
            "python serve_mlserver.py {port} {folder} {cores}",
            Row("MLServer", wire.oip_json, "/v2/models/{model}/infer"),
        ),
        Peer(
            "bentoml",
            ("bentoml==1.4.40",),
            "bentoml serve serve_bentoml:Models --host 127.0.0.1 --port {port} --api-workers {cores}",
            Row("BentoML", wire.stacked_lists, "/{model}"),
            environment={"MODELS": "{folder}", "BENTOML_HOME": "{home}", "BENTOML_DO_NOT_TRACK": "True"},
        ),
        Peer(
            "ray",
            ("ray[serve]==2.60.0",),
            "python serve_ray.py {port} {folder} {cores}",
            Row("Ray Serve", wire.raw, "/{model}"),
            environment={"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": "{home}"},
        ),
        Peer(
            "triton",
            ("nvidia-pytriton==0.7.0",),
            "python serve_triton.py {port} {folder} {cores}",
            Row("Triton, Python backend", wire.oip_binary, "/v2/models/{model}/infer"),
            # The wheel's backend takes the shared library of this Python from where it finds it first.
            environment={"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")), "PYTRITON_HOME": "{home}"},
            python=False,
            hint="its server needs the shared library of this very Python (Debian: libpython3.11)",
        ),
    )
}
