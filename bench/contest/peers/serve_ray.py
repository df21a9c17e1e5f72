"""Ray Serve: a deployment for each model with `@serve.batch`. `python serve_ray.py PORT FOLDER CORES`"""

import sys
import time
from pathlib import Path

import ray
from graph import MAX_BATCH_ROWS, Graph, graphs
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(
    max_ongoing_requests=128,
    ray_actor_options={"num_cpus": 0},
    logging_config={"enable_access_log": False},
)
class Onnx:
    def __init__(self, path: str) -> None:
        self.graph = Graph(Path(path))

    @serve.batch(max_batch_size=MAX_BATCH_ROWS, batch_wait_timeout_s=0)
    async def predict(self, rows: list) -> list:
        return self.graph.run_rows(rows)

    async def __call__(self, request: Request) -> Response:
        output = await self.predict(self.graph.arrays(await request.body()))
        return Response(output.tobytes(), media_type="application/octet-stream")


def main(port: int, folder: Path, cores: int) -> None:
    ray.init(include_dashboard=False, num_cpus=cores, configure_logging=False, object_store_memory=100 * 1024**2)
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
    for name, path in graphs(folder).items():
        serve.run(Onnx.options(num_replicas=cores).bind(str(path)), name=name, route_prefix=f"/{name}")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
