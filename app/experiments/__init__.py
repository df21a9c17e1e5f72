"""Experiments on the variants of one model: who gets which, what is counted, and what may be concluded from it.

`assignment`, `sketch` and `moments` are what serving touches, and import nothing heavy. The rest is for whoever asks
for results: it brings scipy, and is to be imported when it is needed.
"""
