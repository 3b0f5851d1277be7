"""One ablation a file: a docstring with the question it asks, and `configs(base)` with a run for each answer."""
