"""Fuzzing for long: `python -m tests.fuzz [TARGET …] [--seconds N]`, and `TARGET --replay FILE` for what was found.

Ends with 1 when anything was found. What is learnt, and what is found, is kept under `.fuzz/`.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from tests.fuzz.targets import TARGETS

_KEPT = Path(".fuzz").absolute()
_OPENAPI = "openapi"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join((*TARGETS, _OPENAPI))}; all of them")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input, and show what it raises")
    chosen = parser.parse_args()
    if chosen.replay is not None:
        for target in chosen.targets:
            import_module(f"tests.fuzz.targets.{target}").check(chosen.replay.read_bytes())
        return 0
    unknown = {*chosen.targets} - {*TARGETS, _OPENAPI}
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    clean = [_run(target, chosen.seconds) for target in chosen.targets or (*TARGETS, _OPENAPI)]
    return 0 if all(clean) else 1


def _run(target: str, seconds: int) -> bool:
    """Fuzz `target` for so long, say what came of it, and return whether that was nothing."""
    print(f"{target}: {seconds} s …", flush=True)
    if target == _OPENAPI:
        from tests.fuzz.openapi import explored

        return explored(_KEPT / _OPENAPI, seconds)
    from tests.fuzz.campaign import fuzz

    outcome = fuzz(target, _KEPT / target / "corpus", _KEPT / target / "findings", [f"-max_total_time={seconds}"])
    print(outcome, flush=True)
    return outcome.is_clean


if __name__ == "__main__":
    sys.exit(main())
