"""`python -m app.confinement.enter GRANT MODULE ARGUMENTS`: confine this process, and run the module in it."""

import runpy
import sys
from contextlib import suppress
from pathlib import Path

from app.confinement.grant import Grant
from app.confinement.measures import confine


def main() -> None:
    grant, module = Grant.from_json(sys.argv[1]), sys.argv[2]
    # When memory runs out, it is this process that goes.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    confine(grant)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
