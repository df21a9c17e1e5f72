"""What the gateway and the worker agree on: methods and their options, the job's spec and its outcome.

Pydantic models and dataclasses only. The confined process of a job imports this package, so it loads neither the
registry nor an engine.
"""
