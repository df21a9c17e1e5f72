"""Repairs of a quantized graph: each is tried, measured, and kept only when it helps."""
