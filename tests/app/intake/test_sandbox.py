"""What only the process around the checks can promise. Misbehaving children are made by replacing the program."""

import os
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from app import errors
from app.confinement.start import clean_environment
from app.errors import InvalidDataset, InvalidModel, NoSpace, TooLarge
from app.intake import sandbox
from app.intake.artifacts import ArraySpec, Limits
from app.intake.dataset_file import open_dataset
from app.intake.sandbox import inspect_dataset, inspect_model
from tests import graphs
from tests.app.intake.archives import tar_of, zip_of
from tests.app.intake.conftest import Room
from tests.app.intake.test_arrays import npz
from tests.app.intake.test_external_data import classifier, split

pytestmark = pytest.mark.e2e


def test_a_model_is_checked_in_another_process(room: Room) -> None:
    content = graphs.two_token_inputs().SerializeToString()
    source = room.upload(content)
    checked = inspect_model(source, "m.onnx", room.folder, room.limits, engine="onnxruntime")
    assert checked.path.read_bytes() == source.read_bytes() == content
    room.clear()
    assert checked == room.model("m.onnx", content)  # as checked within this process


def test_a_dataset_is_checked_in_another_process(room: Room) -> None:
    x = np.ones((3, 2), np.float32)
    source = room.upload(npz({"x": x, "label": np.array([0, 1, 0])}))
    checked = inspect_dataset(source, "d.npz", room.folder, room.limits)
    assert checked.arrays == (ArraySpec("x", "FP32", (3, 2)),)
    assert checked.path.parent == room.folder
    np.testing.assert_array_equal(open_dataset(checked.path).arrays["x"], x)


@pytest.mark.parametrize(
    ("filename", "content", "preprocess"),
    [
        ("d.csv", b"a,label\n1,x\n2,y\n", None),
        ("d.jsonl", b'{"a": 1, "label": "x"}\n{"a": 2, "label": "y"}', None),
        ("d.csv", b"b,label\n1,x\n2,y\n", '{"columns": {"a": ["b"]}}'),
    ],
)
def test_every_reader_runs_within_the_limits(room: Room, filename: str, content: bytes, preprocess: str | None) -> None:
    checked = inspect_dataset(room.upload(content), filename, room.folder, room.limits, preprocess)
    assert checked.class_names == ("x", "y")


def test_a_model_in_an_archive_comes_with_all_its_parts(room: Room) -> None:
    model, data = split(classifier())
    checked = inspect_model(
        room.upload(tar_of({"m.onnx": model, "weights.bin": data})),
        "m.tar",
        room.folder,
        room.limits,
        engine="onnxruntime",
    )
    assert checked.size_bytes == checked.path.stat().st_size > len(data)


def test_errors_of_the_child_are_raised_here_as_they_were_there(room: Room) -> None:
    with pytest.raises(InvalidModel, match="the file is empty") as refused:
        inspect_model(room.upload(b""), "m.onnx", room.folder, room.limits, engine="onnxruntime")
    assert refused.value.field == "file"
    with pytest.raises(TooLarge, match="1000 bytes"):
        inspect_model(
            room.upload(zip_of({"m.onnx": bytes(2000)})),
            "m.zip",
            room.folder,
            Limits(60, unpacked_bytes=1000),
            engine="onnxruntime",
        )
    with pytest.raises(InvalidDataset, match="known: input") as wrong:
        inspect_dataset(room.upload(npz({"x": np.ones(3)})), "d.npy", room.folder, room.limits, '{"a": 1}')
    assert wrong.value.field == "preprocess"


def test_a_preprocess_of_megabytes_is_not_even_passed_on(room: Room) -> None:
    with pytest.raises(InvalidDataset, match="characters") as refused:
        inspect_dataset(room.upload(b"x"), "d.zip", room.folder, room.limits, " " * 2**21)
    assert refused.value.field == "preprocess"


@pytest.mark.parametrize("filename", ["../../etc/passwd", "a\x00b.onnx", "", "x" * 5000, "\udc80.pt", "m.onnx/"])
def test_what_the_client_calls_the_file_is_only_looked_at(room: Room, filename: str) -> None:
    with pytest.raises((InvalidModel, InvalidDataset)) as refused:
        inspect_model(room.upload(b"nothing"), filename, room.folder, room.limits, engine="onnxruntime")
    assert len(refused.value.detail.encode()) < 400


def test_nothing_is_imported_from_the_folder_and_no_secret_is_passed(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json.py", "onnx.py", "numpy.py", "sitecustomize.py"):
        (room.folder / name).write_text("raise SystemExit('imported from the folder of an upload')")
    monkeypatch.setenv("OCTET_DATABASE_URL", "postgresql://user:secret@host/db")
    content = graphs.linear_classifier().SerializeToString()
    assert inspect_model(room.upload(content), "m.onnx", room.folder, room.limits, engine="onnxruntime").opset == 17
    environment = clean_environment(room.folder)
    assert not any(name.startswith("OCTET") or "secret" in value for name, value in environment.items())


def misbehaving(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have children run `program` instead; `answer(text)` in it answers as the real one does."""
    prelude = """
        import json, os, sys, time
        from pathlib import Path
        def answer(text):
            os.write(1, text if isinstance(text, bytes) else text.encode())
    """
    script = textwrap.dedent(prelude) + textwrap.dedent(program)
    started = subprocess.Popen

    def start(command: list[str], **how: object) -> object:
        *python, _, module = command
        assert python[1:] == ["-P", "-m", "app.confinement.enter"]
        assert module == "app.intake.child"
        return started([sys.executable, "-c", script], **how)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", start)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("os.abort()", "crashes"),
        ("os.kill(os.getpid(), 9)", "crashes"),
        ("import ctypes; ctypes.string_at(0)", "crashes"),
        ("sys.exit(3)", "crashes"),
        ("pass", "cannot be read"),
        ("answer('{')", "cannot be read"),
        ("answer(b'\\xff\\xfe')", "cannot be read"),
        ("answer('[' * 100_000)", "cannot be read"),
        ("answer('[]')", "cannot be read"),
        ("answer('{}')", "cannot be read"),
        ("answer('{\"checked\": {}}')", "cannot be read"),
        ('answer(\'{"checked": {"path": "../target", "data_path": null}}\')', "cannot be read"),
        ('answer(\'{"error": "SystemExit", "detail": "x", "field": null}\')', "cannot be read"),
        ('answer(\'{"error": "InvalidModel", "detail": 7, "field": null}\')', "cannot be read"),
        ('answer(\'{"defect": "Traceback of ours"}\')', "cannot be read"),
        ("while True: answer(b'x' * 65536)", "too many"),
    ],
)
def test_a_child_that_dies_or_talks_nonsense_is_a_refusal(
    room: Room, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    misbehaving(monkeypatch, program)
    for inspect, filename, refusal in (
        (partial(inspect_model, engine="onnxruntime"), "m.onnx", InvalidModel),
        (inspect_dataset, "d.npz", InvalidDataset),
    ):
        with pytest.raises(refusal, match=words) as refused:
            inspect(room.upload(b"x"), filename, room.folder, room.limits)
        assert "Traceback" not in refused.value.detail
        assert str(room.path) not in refused.value.detail


@pytest.mark.parametrize(
    "program",
    [
        "time.sleep(60)",
        # Each takes as long as its limit.
        "os.close(1); time.sleep(60)",
        pytest.param(
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", marks=pytest.mark.e2e
        ),
        pytest.param(
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])",
            marks=pytest.mark.e2e,
        ),
    ],
)
def test_a_child_that_hangs_is_killed_with_all_it_started(
    room: Room, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sandbox, "_EXIT_SECONDS", 0.3)
    mark = room.folder / "pid"
    misbehaving(monkeypatch, f"Path('pid').write_text(str(os.getpid()))\n{program}")
    with pytest.raises(InvalidModel, match="within 3 seconds"):
        inspect_model(room.upload(b"x"), "m.onnx", room.folder, Limits(3, 1000), engine="onnxruntime")
    group = int(mark.read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _group_lives(group):
        time.sleep(0.02)
    assert not _group_lives(group)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_libraries_print_does_not_reach_the_answer(tmp_path: Path) -> None:
    program = (
        "import os; from app.intake import child; fd = child._take_stdout();"
        "print('noise', flush=True); os.write(1, b'more noise'); os.write(fd, b'answer')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ran.stdout == b"answer"
    assert b"noise" in ran.stderr


def test_a_child_out_of_memory_says_so(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protobuf of empty messages takes dozens of times its size in memory."""
    monkeypatch.setattr(sandbox, "_SPACE_BASE_BYTES", 1024**3)
    empty_nodes = b"\x0a\x00" * (20 * 1024**2)
    content = b"\x08\x08\x3a" + _varint(len(empty_nodes)) + empty_nodes
    with pytest.raises(InvalidModel, match="memory"):
        inspect_model(room.upload(content), "m.onnx", room.folder, room.limits, engine="onnxruntime")


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_a_full_disk_is_no_fault_of_the_upload(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehaving(
        monkeypatch,
        """
        import errno
        from app.intake import child, onnx_model
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device", "/srv/scratch/x")
        onnx_model.check_model = full
        child.main()
        """,
    )
    with pytest.raises(NoSpace, match="full") as refused:
        inspect_model(room.upload(b"x"), "m.onnx", room.folder, room.limits, engine="onnxruntime")
    assert "/srv" not in refused.value.detail


def test_every_error_a_child_can_raise_arrives_as_itself(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (errors.UnknownModel, errors.InvalidName, errors.Invalid, errors.Unsupported):
        reply = f'{{"error": "{kind.__name__}", "detail": "said there", "field": "f"}}'
        monkeypatch.undo()
        monkeypatch.chdir(room.path / "working")
        misbehaving(monkeypatch, f"answer({reply!r})")
        with pytest.raises(kind, match="said there") as raised:
            inspect_model(room.upload(b"x"), "m.onnx", room.folder, room.limits, engine="onnxruntime")
        assert (raised.value.detail, raised.value.field) == ("said there", "f")


def test_checking_imports_neither_the_engine_nor_what_only_the_gateway_needs() -> None:
    program = (
        "import sys, app.intake.child, app.intake.onnx_model, app.intake.dataset;"
        "print(*sorted({'onnxruntime', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
