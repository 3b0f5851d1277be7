"""One command a file: `Options`, importable without torch, and `run(options) -> exit status`."""
