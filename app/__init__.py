"""The gateway of Octet, and what gateway and worker both know."""

__version__: str


def __getattr__(name: str) -> str:
    """The version, read where it is asked for: finding it takes longer than all else that a confined process starts."""
    if name == "__version__":
        from importlib.metadata import version

        return version("octet")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
