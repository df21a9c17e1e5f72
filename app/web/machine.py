"""What the gateway runs on, as its operators want to read it."""

import platform
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil

from app import __version__
from app.engines.cpu import Cpu, notable_features, this_cpu
from app.serving.memory import machine_bytes
from app.settings import Settings

_LIBRARIES = ("onnxruntime", "onnx", "numpy", "scipy", "fastapi", "uvicorn", "sqlalchemy", "celery")


@dataclass(frozen=True)
class Machine:
    """`up_seconds` is of the process that answers; `libraries` are names and versions of what is installed."""

    up_seconds: float
    cpu: Cpu
    features: tuple[str, ...]
    load: float
    memory_bytes: int
    models_bytes: int
    disk_free_bytes: int
    disk_bytes: int
    home: str
    registry: str
    broker: str
    octet: str
    python: str
    system: str
    libraries: dict[str, str]


def this_machine(settings: Settings) -> Machine:
    disk = shutil.disk_usage(settings.home)
    return Machine(
        up_seconds=time.time() - psutil.Process().create_time(),
        cpu=this_cpu(),
        features=notable_features(),
        load=psutil.getloadavg()[0],
        memory_bytes=machine_bytes(),
        models_bytes=settings.model_memory or machine_bytes() // 2,
        disk_free_bytes=disk.free,
        disk_bytes=disk.total,
        home=str(settings.home.absolute()),
        registry="PostgreSQL" if settings.registry_url.startswith("postgresql") else "SQLite",
        # Without the address, which may hold a password.
        broker=settings.broker_url.partition(":")[0] if settings.broker_url else "folders under the home",
        octet=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        libraries={name: found for name in _LIBRARIES if (found := _version(name)) is not None},
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
