"""`python -m app.cli` is `octet`."""

from app.cli import main

main()
