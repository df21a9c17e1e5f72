"""LitServe: a `LitAPI` for each model. `python serve_litserve.py PORT FOLDER CORES`

Raw tensors in base64, as its examples send images; ZeroMQ between its processes, as its documentation advises for more
than 100 requests a second.
"""

import base64
import sys
from pathlib import Path

import litserve
from graph import MAX_BATCH_ROWS, Graph, graphs

#: With 0 a lone request is answered in half the time, but workers poll without a pause: half as many a second when
#: many wait.
BATCH_SECONDS = 0.001


class Api(litserve.LitAPI):
    def __init__(self, path: Path, **options) -> None:
        super().__init__(api_path=f"/{path.stem}", **options)
        self._path = path

    def setup(self, device):
        self.graph = Graph(self._path)

    def decode_request(self, request):
        return self.graph.arrays(base64.b64decode(request["input"]))

    def batch(self, inputs):
        return inputs

    def predict(self, rows):
        return self.graph.run_rows(rows)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"output": base64.b64encode(output.tobytes()).decode()}


if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    apis = [Api(path, max_batch_size=MAX_BATCH_ROWS, batch_timeout=BATCH_SECONDS) for path in graphs(folder).values()]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=int(sys.argv[3]), fast_queue=True)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning", access_log=False)
