"""`python -m fewshot`, `torchrun -m fewshot` and the `fewshot` script."""

from __future__ import annotations

import sys

from fewshot.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
