"""Keys in the metadata of calls."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from fastapi.testclient import TestClient
from grpc import StatusCode

from app.access import needs
from app.caller import Scope
from app.inference.grpc.schema import METHODS, SERVICE
from app.main import create_app
from app.settings import Settings
from tests import registries
from tests.app.access.keyed import Keyed, keyed_by
from tests.app.conftest import upload_model
from tests.servers import free_port

REFUSED = {StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Keyed, grpc.Channel]]:
    port = free_port()
    settings = Settings(home=tmp_path_factory.mktemp("keys") / "home", grpc_port=port)
    settings.make_folders()
    registries.migrate(settings.registry_url)
    with (
        TestClient(create_app(settings), base_url="http://localhost") as client,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        keyed_by(client, settings) as keyed,
    ):
        upload_model(client)
        yield keyed, channel


def _message(model: str = "linear") -> bytes:
    tensor = np.zeros((1, 16), np.float32)
    request = METHODS["ModelInfer"].request(
        model_name=model,
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 16]}],
        raw_input_contents=[tensor.tobytes()],
    )
    serialized: bytes = request.SerializeToString()
    return serialized


def _call(channel: grpc.Channel, name: str, raw: bytes = b"", **metadata: str) -> tuple[StatusCode, str]:
    sent = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
    try:
        if name == "ModelStreamInfer":
            list(channel.stream_stream(f"/{SERVICE}/{name}")(iter([raw]), metadata=sent, timeout=30))
        else:
            channel.unary_unary(f"/{SERVICE}/{name}")(raw, metadata=sent, timeout=30)
    except grpc.RpcError as error:
        failed: Any = error
        return failed.code(), failed.details()
    return StatusCode.OK, ""


@pytest.mark.parametrize(("name", "scope"), needs.GRPC.items())
def test_a_call_takes_keys_of_its_scope_and_those_above(
    served: tuple[Keyed, grpc.Channel], name: str, scope: Scope | None
) -> None:
    keyed, channel = served
    key = keyed.make("infer")
    without, wrong = _call(channel, name), _call(channel, name, x_api_key=key[:-1] + "x")
    if scope is None:
        assert without[0] == StatusCode.OK
        return
    assert without[0] == wrong[0] == StatusCode.UNAUTHENTICATED
    for each in Scope:
        code, detail = _call(channel, name, authorization=f"Bearer {keyed.make(each)}")
        if each.covers(scope):
            assert code not in REFUSED
        else:
            assert code == StatusCode.PERMISSION_DENIED
            assert f"needs a key of scope '{scope}'" in detail


def test_inference_and_what_is_told_of_models_are_for_the_models_of_the_key(
    served: tuple[Keyed, grpc.Channel],
) -> None:
    keyed, channel = served
    mine, others = keyed.make("write", models="lin*"), keyed.make("write", models="x*")
    assert _call(channel, "ModelInfer", _message(), x_api_key=mine)[0] == StatusCode.OK
    # By now it is remembered what the name means.
    there = _call(channel, "ModelInfer", _message(), x_api_key=others)
    absent = _call(channel, "ModelInfer", _message("absent"), x_api_key=others)
    assert there[0] == absent[0] == StatusCode.PERMISSION_DENIED
    assert there[1] == absent[1].replace("absent", "linear")
    for name, field in (("ModelMetadata", "name"), ("ModelReady", "name"), ("RepositoryModelUnload", "model_name")):
        raw = METHODS[name].request(**{field: "linear"}).SerializeToString()
        assert _call(channel, name, raw, x_api_key=others)[0] == StatusCode.PERMISSION_DENIED
    index = channel.unary_unary(f"/{SERVICE}/RepositoryIndex")(b"", metadata=(("x-api-key", others),))
    assert METHODS["RepositoryIndex"].response.FromString(index).models == []


def test_a_rate_counts_calls_and_the_requests_of_streams(served: tuple[Keyed, grpc.Channel]) -> None:
    keyed, channel = served
    key = keyed.make("infer", rate=0.01, burst=3)
    assert _call(channel, "ModelInfer", _message(), x_api_key=key)[0] == StatusCode.OK
    sent = (("x-api-key", key),)
    answers = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([_message()] * 3), metadata=sent, timeout=30)
    said = [METHODS["ModelStreamInfer"].response.FromString(raw).error_message for raw in answers]
    assert [bool(each) for each in said] == [False, False, True]
    assert "0.01 requests a second" in said[2]
    code, detail = _call(channel, "ModelInfer", _message(), x_api_key=key)
    assert (code, "requests a second" in detail) == (StatusCode.RESOURCE_EXHAUSTED, True)


def test_what_is_done_over_grpc_is_in_the_audit_log(served: tuple[Keyed, grpc.Channel]) -> None:
    keyed, channel = served
    admin = keyed.make("admin", "operator")
    raw = METHODS["RepositoryModelUnload"].request(model_name="linear").SerializeToString()
    assert _call(channel, "RepositoryModelUnload", raw, x_api_key=admin, x_request_id="r7")[0] == StatusCode.OK
    raw = METHODS["RepositoryModelLoad"].request(model_name="linear").SerializeToString()
    assert _call(channel, "RepositoryModelLoad", raw, x_api_key=admin)[0] == StatusCode.OK
    rows = keyed.send("GET", "/api/v1/audit", admin, params={"by": "operator"}).json()
    assert [row["verb"] for row in rows] == ["loaded", "unloaded"]
    assert rows[1]["request_id"] == "r7"
