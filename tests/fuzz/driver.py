"""The process that atheris fuzzes in: `python -m tests.fuzz.driver TARGET [libFuzzer's options]`.

libFuzzer ends the process, with 0 when its runs or its time are used up, and after a finding with another status.
"""

import sys
from importlib import import_module
from random import Random

import atheris

#: How often an input is changed by its bytes alone.
_BLIND = 0.25


def main() -> None:
    _, name, *options = sys.argv
    # What is traced and counted is the product, and nothing of its libraries.
    with atheris.instrument_imports(include=["app"]):
        target = import_module(f"tests.fuzz.targets.{name}")

    def mutated(data: bytes, size: int, seed: int) -> bytes:
        random = Random(seed)

        def mutate(some: bytes) -> bytes:
            return bytes(atheris.Mutate(some, min(size, len(some) * 2 + 16)))

        return (mutate(data) if random.random() < _BLIND else target.mutated(data, random, mutate))[:size]

    atheris.Setup([sys.argv[0], *options], target.check, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
