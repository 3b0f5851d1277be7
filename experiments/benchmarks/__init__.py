"""Speed beside the other side's, in one run: `python -m experiments.benchmarks`; docs/benchmarks.md says what each row means."""
