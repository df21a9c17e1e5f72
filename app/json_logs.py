"""Lines of the log as JSON, without secrets."""

from typing import Any

from pythonjsonlogger.orjson import OrjsonFormatter

from app.masking import masked


class MaskedJsonFormatter(OrjsonFormatter):
    """Masks each text before it becomes JSON: in JSON, a secret might end at a quote that is not its own."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: _presentable(value) for name, value in super().process_log_record(log_data).items()}


def _presentable(value: Any) -> Any:
    """`value` without secrets, and without surrogates, which JSON in UTF-8 cannot hold."""
    if isinstance(value, str):
        return masked(value).encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _presentable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_presentable(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else _presentable(str(value))
