"""`python -m experiments.claims --data DIR`: see `experiments.claims`."""

from __future__ import annotations

import sys

from experiments.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["claims", *sys.argv[1:]]))
