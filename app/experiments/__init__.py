"""Experiments on the variants of one model: who gets which, what is counted, and what may be concluded from it.

`assignment`, `definition`, `guardrails`, `sketch`, `moments`, `pairs`, `units`, `evidence` and `counts` are what
serving and the API touch, and import nothing heavy. The rest is for whoever asks for `results`: it brings scipy, and is
to be imported when needed.
"""
