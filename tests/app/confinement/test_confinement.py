"""What a confined process can do, each tried by `probe` in a real one.

The refusals of files and sockets take a kernel with landlock and seccomp, as Linux has since 6.12; elsewhere they are
skipped, and the limits are still proved.
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.confinement import Confinement, Grant, confinement, start

MIB = 1024**2
TESTS = Path(__file__).parents[2]

landlocked = pytest.mark.skipif(confinement().landlock < 1, reason="needs Linux 5.13 or newer with landlock enabled")
filtered = pytest.mark.skipif(not confinement().seccomp, reason="needs a Linux kernel with CONFIG_SECCOMP_FILTER")


@pytest.fixture
def grant(tmp_path: Path) -> Grant:
    folder = tmp_path / "private"
    folder.mkdir()
    return Grant(folder, (TESTS,), memory_bytes=1024 * MIB, cpu_seconds=60, file_bytes=MIB)


def attempt(grant: Grant, *wanted: str, **environment: str) -> list[Any]:
    """What became of each; of those after one that ended the process, nothing."""
    return _ended(grant, *wanted, **environment)[0]


def _ended(grant: Grant, *wanted: str, **environment: str) -> tuple[list[Any], int]:
    with tempfile.TemporaryFile() as stderr:
        child = start(
            "tests.app.confinement.probe",
            wanted,
            grant,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            environment=environment,
        )
        assert child.stdout is not None
        with child.stdout as stdout:
            said = stdout.read()
        status = child.wait(60)
        stderr.seek(0)
        assert b"Traceback" not in stderr.read()
    return [json.loads(line) for line in said.splitlines()], status


def refused(*answers: Any) -> bool:
    return all("failed" in answer for answer in answers)


DONE = {"done": None}


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@landlocked
def test_it_reads_nothing_but_its_folder_and_what_is_granted(grant: Grant, tmp_path: Path) -> None:
    registry = tmp_path / "registry.sqlite3"
    registry.write_text("keys")
    granted = tmp_path / "granted"
    granted.write_text("a model")
    assert grant.folder is not None
    (grant.folder / "own").write_text("own")
    (grant.folder / "way_out").symlink_to(registry)
    answers = attempt(
        replace(grant, readable=(*grant.readable, granted)),
        f"read={granted}",
        "read=own",
        f"read={registry}",
        "read=way_out",
        "read=/etc/passwd",
        f"read=/proc/{os.getpid()}/environ",
        f"list={tmp_path}",
        f"read=/proc/self/root{registry}",
    )
    assert answers[:2] == [DONE, DONE]
    assert refused(*answers[2:])


@landlocked
def test_it_writes_nothing_but_in_its_folder(grant: Grant, tmp_path: Path) -> None:
    granted = tmp_path / "granted"
    granted.write_text("a model")
    outside = tmp_path / "outside"
    answers = attempt(
        replace(grant, readable=(*grant.readable, granted)),
        "write=own",
        f"write={outside}",
        f"overwrite={granted}",
        f"write={TESTS / 'planted.py'}",
        "symlink=link",
    )
    assert answers[0] == DONE
    assert refused(*answers[1:])
    assert not outside.exists()
    assert granted.read_text() == "a model"


@filtered
def test_a_blob_that_is_linked_into_its_folder_cannot_be_changed(grant: Grant, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_text("a model")
    blob.chmod(0o444)
    assert grant.folder is not None
    (grant.folder / "linked").hardlink_to(blob)
    assert refused(*attempt(grant, "overwrite=linked", "change_mode=linked", "overwrite=linked"))


@filtered
def test_it_reaches_no_port_and_no_socket_with_a_path(grant: Grant, port: int, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        path = str(tmp_path / "docker.sock")
        listening.bind(path)
        listening.listen()
        answers = attempt(grant, f"connect={port}", "bind=0", f"unix_socket={path}", "socketpair")
    assert refused(*answers[:3])
    assert answers[3] == DONE


@pytest.mark.skipif(confinement().landlock < 4, reason="needs Linux 6.7 or newer with landlock enabled")
def test_landlock_alone_keeps_it_from_ports_too(grant: Grant, port: int) -> None:
    """On a socket that was made before the filter was there to forbid it."""
    with socket.socket() as early:
        child = os.fork()
        if not child:
            from app.confinement.kernel import PR_SET_NO_NEW_PRIVS, prctl
            from app.confinement.landlock import restrict

            prctl(PR_SET_NO_NEW_PRIVS, 1)
            restrict([])
            try:
                early.connect(("127.0.0.1", port))
            except PermissionError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@filtered
def test_it_starts_no_program_and_no_process_but_threads(grant: Grant) -> None:
    answers = attempt(grant, "run=/bin/true", "exec=/bin/true", "fork", "ptrace", "unshare", "thread")
    assert refused(*answers[:5])
    assert answers[5] == DONE


@filtered
def test_it_has_no_power_over_other_processes_nor_the_system(grant: Grant) -> None:
    answers = attempt(
        grant, f"kill={os.getpid()}", f"limits_of={os.getpid()}", "kill_itself", "capabilities", "status=NoNewPrivs"
    )
    assert refused(*answers[:2])
    assert answers[2:] == [DONE, {"done": "0" * 16}, {"done": "1"}]


@filtered
def test_one_that_aborts_is_seen_to(grant: Grant) -> None:
    """The filter lets a process send signals to itself, or crashes would look like something else."""
    assert _ended(grant, "abort") == ([], -signal.SIGABRT)


def test_it_cannot_exceed_its_memory_nor_its_largest_file(grant: Grant) -> None:
    answers = attempt(
        grant, f"allocate={64 * MIB}", f"allocate={2048 * MIB}", f"write_bytes={MIB}", f"write_bytes={2 * MIB}"
    )
    assert [refused(answer) for answer in answers] == [False, True, False, True]


def test_it_cannot_exceed_its_seconds_of_cpu(grant: Grant) -> None:
    said, status = _ended(replace(grant, cpu_seconds=1), "spin")
    assert said == []
    assert status in (-signal.SIGXCPU, -signal.SIGKILL)


def test_it_inherits_no_setting_and_no_descriptor(grant: Grant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTET_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with tempfile.TemporaryFile() as secret:
        os.set_inheritable(secret.fileno(), True)
        environment, descriptors = (answer["done"] for answer in attempt(grant, "environment", "descriptors"))
    assert set(environment) <= {
        *("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE"),
        *("LANG", "HOME", "TMPDIR", "LC_CTYPE"),
    }
    assert descriptors == []


def test_a_grant_survives_its_writing_down(grant: Grant) -> None:
    assert Grant.from_json(grant.to_json()) == grant
    none = Grant(None, cpu_seconds=None)
    assert Grant.from_json(none.to_json()) == none


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Confinement(7, True), "landlock 7, seccomp"),
        (Confinement(0, True), "missing: landlock"),
        (Confinement(5, True), "signals"),
        (Confinement(7, False), "seccomp, so they can start programs"),
    ],
)
def test_what_is_missing_is_said(found: Confinement, words: str) -> None:
    assert words in str(found)
    assert found.is_complete == ("missing" not in str(found))
