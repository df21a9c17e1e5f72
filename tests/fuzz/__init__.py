"""Inputs that no one thought of: made by atheris for what reads bytes, and by schemathesis for the whole HTTP API.

`python -m tests.fuzz` runs it for long (`make fuzz`), and repeats what was found.
"""
