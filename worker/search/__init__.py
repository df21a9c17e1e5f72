"""Mixed precision: which quantizer groups stay in FP32, found by measuring."""
