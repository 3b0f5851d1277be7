"""A matplotlib figure that a notebook shows, whether or not pyplot was ever imported there."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A `Figure` with a PNG of itself."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()
