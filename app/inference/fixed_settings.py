"""The trace and logging settings of the protocol, which are what the operator started this server with.

Clients may read them, and set them to what they are; a change by a client is refused. So neither extension is listed
in the server's metadata.
"""

from collections.abc import Mapping
from typing import Any

from app.errors import Invalid, Unsupported

TRACE: Mapping[str, Any] = {
    "trace_file": "",
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_mode": "triton",
}

_LOG_LEVELS = ("debug", "info", "warning", "error")


def logging_settings(log_level: str) -> dict[str, Any]:
    """What `OCTET_LOG_LEVEL` comes to in the protocol's terms."""
    threshold = _LOG_LEVELS.index(log_level)
    return {
        "log_file": "",
        "log_info": threshold <= _LOG_LEVELS.index("info"),
        "log_warning": threshold <= _LOG_LEVELS.index("warning"),
        "log_error": True,
        "log_verbose_level": 1 if log_level == "debug" else 0,
        "log_format": "default",
    }


def check_unchanged(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises `Invalid` where `wanted` names what is no setting, `Unsupported` where it asks for another value.

    null is the default, and so what the setting is. Numbers may come as strings.
    """
    for name, value in wanted.items():
        if name not in settings:
            raise Invalid(f"unknown setting '{name[:80]}'; there are {', '.join(settings)}")
        if value is not None and _plain(value) != _plain(settings[name]):
            raise Unsupported(f"'{name}' is fixed when the server starts, at {settings[name]!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool) else str(value)
