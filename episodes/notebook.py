"""What objects show in a notebook: small tables, and thumbnails where pictures lie on disk. Bounded in size, and escaped."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from episodes.files import open_regular

SIDE = 64  # of a thumbnail's longer side, in pixels
MOST_BYTES = 64 << 20  # of a file that is opened for a thumbnail
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_CELL = "text-align:left;vertical-align:top"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """An HTML table; a cell that is a `Markup` stays as it is, everything else is escaped."""
    lines = [f"<caption style='text-align:left'>{html.escape(caption)}</caption>"] if caption else []
    if head:
        lines.append(f"<tr>{''.join(f'<th style={_CELL!r}>{html.escape(name)}</th>' for name in head)}</tr>")
    for row in rows:
        lines.append(f"<tr>{''.join(f'<td style={_CELL!r}>{_cell(value)}</td>' for value in row)}</tr>")
    return f"<table>{''.join(lines)}</table>"


class Pictures(Protocol):
    """An `ImageTable`."""

    @property
    def items(self) -> Sequence[Any]:
        """Paths, or other keys."""
        ...

    def image_name(self, row: int) -> str:
        """What a picture goes by."""
        ...


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def _cell(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(str(value))


def thumbnails(pictures: Pictures, rows: Sequence[int], most: int = 5) -> Markup:
    """The first pictures of some rows, and how many more there are; by name where one cannot be shown."""
    shown = "".join(_picture(pictures, int(row)) for row in rows[:most])
    more = f" … {len(rows) - most} more" if len(rows) > most else ""
    return Markup(shown + more)


def _picture(pictures: Pictures, row: int) -> str:
    name = html.escape(pictures.image_name(row), quote=True)
    data = _thumbnail(pictures.items[row])
    if data is None:
        return f"<code>{name}</code> "
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{encoded}" alt="{name}" title="{name}" style="margin:1px">'


def _thumbnail(item: Any) -> bytes | None:
    """A small JPEG of a picture file; None of whatever is none, cannot be read, or where Pillow is not installed."""
    try:
        from PIL import Image, ImageOps

        with open_regular(item) as file:
            data = file.read(MOST_BYTES)
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        small = ImageOps.exif_transpose(image).convert("RGB")
        small.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=75)
        return stream.getvalue()
    except Exception:  # a picture that cannot be shown is no reason not to show the others
        return None
