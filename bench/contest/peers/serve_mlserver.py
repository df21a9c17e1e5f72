"""MLServer: a custom runtime with adaptive batching. `python serve_mlserver.py PORT FOLDER CORES`

On one core models are in the server's own process: a worker of it would only have tensors passed on to itself.
"""

import asyncio
import sys
from pathlib import Path

from graph import MAX_BATCH_ROWS, Graph, graphs
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse

#: A lone request waits for so long too. Without any wait it would be one request a batch.
BATCH_SECONDS = 0.001


class Onnx(MLModel):
    async def load(self) -> bool:
        self.graph = Graph(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        output = self.graph.run([given[name] for name in self.graph.names])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output(self.graph.output, output)])


async def main(port: int, folder: Path, cores: int) -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=cores if cores > 1 else 0,
        gzip_enabled=False,
        debug=False,
    )
    models = [
        ModelSettings(
            name=name,
            implementation=Onnx,
            max_batch_size=MAX_BATCH_ROWS,
            max_batch_time=BATCH_SECONDS,
            parameters=ModelParameters(uri=str(path)),
        )
        for name, path in graphs(folder).items()
    ]
    await MLServer(settings).start(models)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
