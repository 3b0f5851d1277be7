"""Ablations, benchmarks and the making of the embedded encoder; run from the checkout, never installed."""
