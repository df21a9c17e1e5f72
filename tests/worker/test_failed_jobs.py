"""Folders of failed jobs: how many are kept, and when none is."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.failed_jobs import FailedJobs


def folder(home: Path) -> Path:
    made = home / "job"
    made.mkdir()
    (made / "job.json").write_text("{}")
    return made


def test_the_newest_are_kept(tmp_path: Path) -> None:
    failed_jobs = FailedJobs(tmp_path, 2)
    for number, job_id in enumerate("abc"):
        kept = failed_jobs.keep(folder(tmp_path), job_id)
        assert kept == tmp_path / "failed-jobs" / job_id
        assert (kept / "job.json").exists()
        os.utime(kept, (number, number))
    assert failed_jobs.job_ids() == ["b", "c"]
    assert not (tmp_path / "job").exists()


def test_none_is_kept_unless_asked_for(tmp_path: Path) -> None:
    assert FailedJobs(tmp_path, 0).keep(folder(tmp_path), "a") is None
    assert list(tmp_path.iterdir()) == []


def test_a_lower_number_holds_for_those_that_are_kept_already(tmp_path: Path) -> None:
    for job_id in "abc":
        FailedJobs(tmp_path, 3).keep(folder(tmp_path), job_id)
    FailedJobs(tmp_path, 1).trim()
    assert FailedJobs(tmp_path, 1).job_ids() == ["c"]


@pytest.mark.parametrize("full", ["f_bavail", "f_favail"])
def test_a_full_disk_gets_all_folders_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    failed_jobs = FailedJobs(tmp_path, 5)
    failed_jobs.keep(folder(tmp_path), "a")
    disk = {"f_blocks": 1000, "f_bavail": 50, "f_files": 1000, "f_favail": 50} | {full: 49}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**disk))
    assert failed_jobs.keep(folder(tmp_path), "b") is None
    assert failed_jobs.job_ids() == []
    assert not (tmp_path / "job").exists()


def test_a_job_that_fills_the_disk_gets_the_space_of_kept_folders_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_jobs = FailedJobs(tmp_path, 5)
    failed_jobs.keep(folder(tmp_path), "a")
    job = folder(tmp_path)

    def disk(_: object) -> SimpleNamespace:
        free = 0 if job.exists() else 500
        return SimpleNamespace(f_blocks=1000, f_bavail=free, f_files=1000, f_favail=1000)

    monkeypatch.setattr(os, "statvfs", disk)
    assert failed_jobs.keep(job, "b") is None
    assert failed_jobs.job_ids() == []


def test_a_folder_that_cannot_be_moved_is_removed(tmp_path: Path) -> None:
    (tmp_path / "failed-jobs").write_text("in the way")
    assert FailedJobs(tmp_path, 5).keep(folder(tmp_path), "a") is None
    assert not (tmp_path / "job").exists()


def test_a_job_without_a_folder_is_no_trouble(tmp_path: Path) -> None:
    assert FailedJobs(tmp_path, 5).keep(tmp_path / "job", "a") is None
