"""The process that reads what strangers sent: one request as JSON on stdin, one answer as JSON on stdout.

Run by `app.intake.sandbox`, confined as `app.confinement` has it. Parsers, and the model that is run here for the first
time, may crash, hang or swallow memory; the gateway only sees it end.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from app.errors import InvalidDataset, InvalidModel, NoSpace, OctetError, TooMuchMemory, is_full
from app.intake.artifacts import Limits

#: Past the parent's own limit: for when there is no parent left to enforce it.
_GRACE_SECONDS = 5


def main() -> None:
    answer_to = _take_stdout()
    request = json.load(sys.stdin)
    signal.setitimer(signal.ITIMER_REAL, request["seconds"] + _GRACE_SECONDS)
    answer = json.dumps(_answer(request))
    with os.fdopen(answer_to, "w") as out:
        out.write(answer)


def _take_stdout() -> int:
    """A descriptor for the answer alone: what libraries print to stdout goes where errors go."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    return answer_to


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["folder"])
    refusal = InvalidModel if request["kind"] == "model" else InvalidDataset
    try:
        return {"checked": _inspect(request, folder)}
    except TooMuchMemory:
        return _refused(refusal("running the model takes more memory than is granted for one of its size"), request)
    except OctetError as error:
        return _refused(error, request)
    except MemoryError:
        return _refused(refusal("reading the file takes more memory than is granted for one of its size"), request)
    except OSError as error:
        if is_full(error):
            return _refused(NoSpace("the disk that uploads are checked on is full"), request)
        return {"defect": traceback.format_exc()[-8000:]}
    except Exception:  # noqa: BLE001 - whatever a parser raises on hostile bytes must end as a refusal
        return {"defect": traceback.format_exc()[-8000:]}


def _inspect(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Import only what this kind of upload needs: a start costs a tenth of a second for each library."""
    source, filename = Path(request["source"]), request["filename"]
    limits = Limits(request["seconds"], request["unpacked_bytes"])
    if request["kind"] == "model":
        from app.intake.onnx_model import check_model

        checked = check_model(source, filename, folder, limits)
        # Past the check: most of what is refused needs no engine.
        from app import engines
        from app.engines.warming import warm_up

        # What is valid ONNX may still be beyond the engine, or break it: better here than at the first inference.
        warm_up(engines.get(request["engine"]).load(checked.path, intra_op_threads=1))
        return checked.as_json()
    from app.intake.dataset import read_dataset
    from app.intake.dataset_formats import Format

    return read_dataset(Format(**request["format"]), source, folder, limits, request["preprocess"]).as_json()


def _refused(error: OctetError, request: dict[str, Any]) -> dict[str, Any]:
    """The error for the client: no path of this machine, and nothing that UTF-8 cannot carry."""
    detail = error.detail.replace(request["source"], "the upload").replace(request["folder"] + "/", "")
    detail = detail.encode("utf-8", "backslashreplace").decode()
    return {"error": type(error).__name__, "detail": detail, "field": error.field}


if __name__ == "__main__":
    main()
