"""Models that are served from processes of their own, confined: one that breaks the engine breaks nothing else.

`IsolatedEngine` is an engine like any other. `nursery` starts its processes, `runner` is what runs in one, and the two
sides talk over a `channel`.
"""
