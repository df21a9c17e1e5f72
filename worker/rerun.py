"""`python -m worker.rerun FOLDER`: do the job of a kept folder again, in this process, for a debugger.

Nothing confines this process, and no registry hears of it. What the job makes stays in the folder. An error is raised
as it is, so `python -m pdb -c continue -m worker.rerun FOLDER` stops where it happens.
"""

import faulthandler
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app import custom_operators, logs
from app.contracts.job_spec import FILE_NAME, JobSpec
from app.settings import Settings
from worker import pipeline
from worker.methods import Stage


def main(folder: Path) -> None:
    """Do the job in `folder`, and print its progress and its outcome."""
    settings = Settings()
    logs.configure(settings.log_level, "text", "job_id")
    custom_operators.allow(custom_operators.listed(settings.custom_operators))
    os.chdir(folder)
    outcome = pipeline.run(JobSpec.read(folder), folder, _print_progress)
    print(f"verdict: {outcome.verdict or 'none'}", *outcome.reasons, sep="\n")
    if outcome.artifact is not None:
        print(f"artifact: {folder / outcome.artifact}")


def _print_progress(stage: Stage, share: float, detail: Mapping[str, Any] | None = None, /) -> None:
    print(f"{stage} {share:.0%}", (detail or {}).get("text", ""))


def _folder(arguments: list[str]) -> Path:
    """The folder that the command line names; exits with an error where it names no job."""
    if len(arguments) != 1:
        sys.exit("usage: python -m worker.rerun FOLDER")
    folder = Path(arguments[0]).absolute()
    if not (folder / FILE_NAME).is_file():
        sys.exit(f"{folder} holds no {FILE_NAME}: name the folder of a failed job, such as .octet/failed-jobs/JOB_ID")
    return folder


if __name__ == "__main__":
    faulthandler.enable()
    main(_folder(sys.argv[1:]))
