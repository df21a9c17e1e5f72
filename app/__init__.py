"""The gateway of Octet, and what gateway and worker both know."""

from importlib.metadata import version

__version__ = version("octet")
