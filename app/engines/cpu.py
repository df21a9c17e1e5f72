"""What this machine's CPU can do, as far as the choice of quantized types depends on it."""

import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cpu:
    """`vnni`: multiplies U8 by S8 into 32 bits without saturating at 16 (AVX512-VNNI or AVX-VNNI)."""

    model: str
    architecture: str
    cores: int
    vnni: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@cache
def this_cpu() -> Cpu:
    """Read from `/proc/cpuinfo`; on systems without it, VNNI is taken as absent, which is the safe answer."""
    fields: dict[str, str] = {}
    source = Path("/proc/cpuinfo")
    if source.exists():
        for line in source.read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    return Cpu(
        model=fields.get("model name") or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=usable_cores(),
        vnni=bool(flags & {"avx512_vnni", "avx_vnni"}),
    )


#: Of the CPU's flags, those that tell how fast a quantized model may be.
_NOTABLE = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")


@cache
def notable_features() -> tuple[str, ...]:
    """Of `/proc/cpuinfo`'s flags, those of instructions that quantized models are computed by."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text().splitlines() if source.exists() else []
    flags = next((line for line in lines if line.partition("\t")[0] in {"flags", "Features"}), "").split()
    return tuple(name for name in _NOTABLE if name in flags)


@cache
def fingerprint() -> str:
    """Equal for CPUs that what was made for one of them runs on: same model, same features. 16 hexadecimal digits."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text().splitlines() if source.exists() else [platform.processor()]
    facts = sorted({line for line in lines if line.partition("\t")[0] in {"model name", "flags", "Features"}})
    return sha256("\n".join([platform.machine(), *facts]).encode()).hexdigest()[:16]


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
