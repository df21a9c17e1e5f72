"""The broker that needs no server: a folder with a file for each message.

A message appears whole or not at all, whoever is killed and however full the disk is, and one worker gets it.
"""

import json
import logging
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import virtual

from app.scratch import private_folder

_log = logging.getLogger(__name__)


class Channel(virtual.Channel):  # type: ignore[misc]
    """Takes the options `folder`, where messages lie, and `scratch`, on the same disk, where they are written."""

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        name = f"{time.monotonic_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        try:
            with private_folder(self._option("scratch")) as folder:
                written = folder / name
                written.write_text(json.dumps(message))
                os.replace(written, self._option("folder") / name)
        except OSError as error:
            raise ChannelError(f"the message could not be written: {error.strerror}") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for path in self._messages(queue):
            try:
                content = path.read_text()
                # Whoever removes it has it.
                path.unlink()
                return json.loads(content)
            except FileNotFoundError:
                continue
            except ValueError:
                _log.warning("%s is no message", path)
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._messages(queue))

    def _purge(self, queue: str) -> int:
        messages = self._messages(queue)
        for path in messages:
            path.unlink(missing_ok=True)
        return len(messages)

    def _messages(self, queue: str) -> list[Path]:
        """The oldest first."""
        return sorted(self._option("folder").glob(f"*.{queue}.msg"))

    def _option(self, name: str) -> Path:
        return Path(self.connection.client.transport_options[name])


class Transport(virtual.Transport):  # type: ignore[misc]
    """What Celery's setting `broker_transport` names."""

    Channel = Channel
    driver_type = driver_name = "files"
    #: What is bound to what: as each process says when it starts.
    _known = virtual.BrokerState()

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.state = self._known

    def driver_version(self) -> str:
        return "1"
