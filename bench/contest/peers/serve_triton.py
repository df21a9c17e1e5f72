"""Triton's own server through PyTriton, whose wheel carries it: models in Python, batched by Triton.

`python serve_triton.py PORT FOLDER CORES`
"""

import signal
import sys
from pathlib import Path

import numpy as np
from graph import MAX_BATCH_ROWS, Graph, graphs
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def infer_function(graph: Graph):
    @batch
    def infer(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        return {graph.output: graph.run([inputs[name] for name in graph.names])}

    return infer


def main(port: int, folder: Path, cores: int) -> None:
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port,
        grpc_address="127.0.0.1",
        grpc_port=port + 1,
        metrics_port=port + 2,
        allow_grpc=False,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        for name, path in graphs(folder).items():
            graph = Graph(path)
            triton.bind(
                model_name=name,
                infer_func=[infer_function(graph)] * cores,
                inputs=[
                    Tensor(name=each, dtype=dtype, shape=tuple(-1 if dim is None else dim for dim in shape))
                    for each, dtype, shape in zip(graph.names, graph.dtypes, graph.shapes, strict=True)
                ],
                outputs=[Tensor(name=graph.output, dtype=np.float32, shape=(-1,))],
                config=ModelConfig(
                    batching=True,
                    max_batch_size=MAX_BATCH_ROWS,
                    batcher=DynamicBatcher(max_queue_delay_microseconds=0),
                ),
            )
        triton.serve()


if __name__ == "__main__":
    # Without this the server's shared memory and folders would stay.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
