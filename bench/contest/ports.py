"""Where servers may listen."""

import socket
from contextlib import ExitStack


def free_port() -> int:
    """One that is free with the two after it, which some servers take too."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                for other in (port + 1, port + 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", other))
            except (OSError, OverflowError):
                continue
            return port
