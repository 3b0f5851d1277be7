"""Every claim that the program makes in its output, measured against the truth: one file a claim.

    python -m experiments claims --data DIR        # or python -m experiments.claims; writes docs/claims.md

A claim is a module of this package with

- `NAME`: the heading of its section;
- `CLAIM`: what the program says, in a sentence or two, and how that was tested;
- `measure(data) -> Iterable[Row]`: the figures; `data` (`experiments.claims.base.Data`) gives image sets and their embeddings, and
  `Row` (there too) holds a nominal value, what was measured and the bar, and says itself whether it passed.

Modules without `measure` are what the claims share. `python -m experiments claims --only MODULE` measures some of them anew, and
leaves the other sections of the page as they are.
"""
