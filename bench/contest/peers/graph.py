"""An ONNX file as all peers run it: onnxruntime with the settings that Octet has, one thread a request.

Run by the peers' own interpreters, so it knows nothing of Octet.
"""

from pathlib import Path

import numpy as np
import onnxruntime as ort

MAX_BATCH_ROWS = 32

_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class Graph:
    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = self._session.get_inputs()
        self.names = [each.name for each in inputs]
        self.dtypes = [_DTYPES[each.type] for each in inputs]
        #: Of one row; None is any length.
        self.shapes = [tuple(dim if isinstance(dim, int) else None for dim in each.shape[1:]) for each in inputs]
        self.output = self._session.get_outputs()[0].name

    def arrays(self, raw: bytes) -> list[np.ndarray]:
        """One row of each input, from their bytes one after the other; inputs of any length have the same."""
        size = len(raw) // len(self.names)
        return [
            np.frombuffer(raw[number * size : (number + 1) * size], dtype).reshape(
                [1, *(-1 if dim is None else dim for dim in shape)]
            )
            for number, (dtype, shape) in enumerate(zip(self.dtypes, self.shapes, strict=True))
        ]

    def run(self, arrays: list[np.ndarray]) -> np.ndarray:
        """(rows, …) of each input to (rows, …) of the first output."""
        return self._session.run([self.output], dict(zip(self.names, arrays, strict=True)))[0]

    def run_rows(self, rows: list[list[np.ndarray]]) -> list[np.ndarray]:
        """Requests of one row each, as one batch: an output row each."""
        if len(rows) == 1:
            return [self.run(rows[0])]
        joined = self.run([np.concatenate(column) for column in zip(*rows, strict=True)])
        return list(joined)


def graphs(folder: Path) -> dict[str, Path]:
    """The ONNX files of a folder by their names."""
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}
