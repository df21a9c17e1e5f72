"""BentoML: a service with a batchable endpoint for each model. `MODELS=FOLDER bentoml serve serve_bentoml:Models`

Tensors in JSON, the one form that its server takes for them. A batchable endpoint has one parameter, so inputs of a
model that has several are stacked in it. How long it waits for more requests it learns from those before: after many at
once it lets a lone one wait too, and shorter limits (`max_latency_ms`) have it refuse requests instead.
"""

import os
from pathlib import Path

import bentoml
import numpy as np
from graph import MAX_BATCH_ROWS, Graph, graphs

GRAPHS = {name: Graph(path) for name, path in graphs(Path(os.environ["MODELS"])).items()}


def endpoint(name: str, graph: Graph):
    def predict(self, x: np.ndarray) -> np.ndarray:
        columns = [x] if len(graph.names) == 1 else list(np.moveaxis(x, 1, 0))
        return graph.run([column.astype(dtype) for column, dtype in zip(columns, graph.dtypes, strict=True)])

    predict.__name__ = name
    return bentoml.api(predict, route=f"/{name}", batchable=True, max_batch_size=MAX_BATCH_ROWS)


Models = bentoml.service(logging={"access": {"enabled": False}}, traffic={"timeout": 60})(
    type("Models", (), {name: endpoint(name, graph) for name, graph in GRAPHS.items()})
)
