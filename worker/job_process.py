"""`python -m worker.job_process FOLDER LEVEL`: do the job of `FOLDER/job.json`, in a process of its own.

The process knows nothing but this folder, and leaves its artifact there. Standard output carries one JSON object a
line: progress, `{"stage": "calibrate", "progress": 0.35}`, records of the log from LEVEL on,
`{"log": {"logger": "…", "level": "INFO", "text": "…"}}`, and at last `{"outcome": {…}}` or, with exit code 1,
`{"error": "…", "traceback": "…"}`. Standard error carries what libraries print and, when the process crashes or gets
SIGUSR1, where its threads are.
"""

import faulthandler
import logging
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from app.contracts.job_spec import JobSpec
from app.errors import JobFailed, OctetError
from worker import pipeline
from worker.channel import Channel, ChannelHandler, claim_stdout, end_with_parent
from worker.job_progress import job_progress

_log = logging.getLogger("worker.job_process")

_OUT_OF_MEMORY = "the job ran out of memory; a worker with more of it, or a smaller model, would do"


def main(folder: Path, channel: Channel) -> int:
    """Do the job in `folder`, send its end, and return the exit code."""
    try:
        spec = JobSpec.read(folder)
        progress = job_progress(channel, spec.method)
        outcome = pipeline.run(spec, folder, progress, lambda path: channel.checkpoint(path.name))
    except OctetError as error:
        channel.error(error.detail, traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - the last handler: the parent must hear of anything
        _log.exception("internal error")
        channel.error(_message(error), traceback.format_exc())
    else:
        channel.send({"outcome": outcome.model_dump(mode="json")})
        return 0
    return 1


def _message(error: Exception) -> str:
    """Describe an unexpected error to the client; its traceback goes to the log."""
    if _is_out_of_memory(error):
        return _OUT_OF_MEMORY
    if isinstance(error, OSError):
        return f"the job's files could not be read or written: {error.strerror or type(error).__name__}"
    return f"internal error: {type(error).__name__}: {error}"


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own error, or the runtime's, which has no class of its own."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("Failed to allocate memory", "bad_alloc", "bad allocation")
    )


def _refuse_debugger(*_: object, **__: object) -> NoReturn:
    """For `breakpoint()`, which would wait for a terminal until the job's time is up."""
    raise JobFailed("breakpoint(): no terminal here; keep the folder of the job and use python -m worker.rerun FOLDER")


if __name__ == "__main__":
    sys.breakpointhook = _refuse_debugger
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    messages = claim_stdout()
    end_with_parent()
    logging.basicConfig(level=sys.argv[2], format="%(message)s", handlers=[ChannelHandler(messages)])
    sys.exit(main(Path(sys.argv[1]), messages))
