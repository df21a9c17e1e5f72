"""A pytest plugin: `--folder-durations` prints the seconds that the tests of each folder took, the longest first."""

from collections import Counter

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--folder-durations", action="store_true", help="print the seconds per folder at the end")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--folder-durations"):
        config.pluginmanager.register(_FolderDurations())


class _FolderDurations:
    """Sums of set-up, call and teardown. Under xdist the controller receives the reports of all workers."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._tests: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = report.nodeid.partition("::")[0].rpartition("/")[0]
        self._seconds[folder] += report.duration
        self._tests[folder] += report.when == "setup"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("seconds per folder")
        for folder, seconds in self._seconds.most_common():
            terminalreporter.write_line(f"{seconds:8.1f} s  {self._tests[folder]:5} tests  {folder}")
        total = sum(self._seconds.values())
        terminalreporter.write_line(f"{total:8.1f} s  {sum(self._tests.values()):5} tests  all")
