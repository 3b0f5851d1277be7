"""Every kind of file that may lie where a picture belongs, and what it gets."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

ANSWERED = "answered"
AVIF = (
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0bQAAAAAAAQAA"
    "AB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAKwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUA"
    "AAAAAAAAEAAAABAAAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBAAwAAAAAE2NvbHJuY2x4AAEADQAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAM21kYXQSAAoJ"
    "GAz/2iAhoNCAMhwUx4eGZQIIIJ5QAAAAOtxBfmJJrQdEWgPNL5ao"
)


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        what: it is, in words.
        make: writes it to a path.
        gets: `ANSWERED`, or what is told of it where it cannot be read; "passed over: ..." where it has no row.
        name: of the file.
        needs: this feature of Pillow.
    """

    what: str
    make: Callable[[Path], None]
    gets: str = ANSWERED
    name: bytes = b"picture.png"
    needs: str = ""

    @property
    def readable(self) -> bool:
        return self.gets == ANSWERED

    @property
    def has_row(self) -> bool:
        return not self.gets.startswith("passed over")


def picture(seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Smooth colours, other ones for other seeds."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def written(data: bytes | Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data() if callable(data) else data) and None


def saved(
    kind: str, change: Callable[[Image.Image], Image.Image] = lambda image: image, **settings: Any
) -> Callable[[Path], None]:
    return lambda path: change(picture()).save(path, kind, **settings)


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def linked_picture(path: Path) -> None:
    picture().save(path.parent / ".whole.png")
    path.symlink_to(".whole.png")


def linked_fifo(path: Path) -> None:
    os.mkfifo(path.parent / ".fifo")
    path.symlink_to(".fifo")


def oriented(number: int) -> Callable[[Path], None]:
    exif = Image.Exif()
    exif[0x0112] = number
    return saved("JPEG", exif=exif)


def chunk(kind: bytes, data: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def inserted(data: bytes) -> bytes:
    """A PNG with a chunk after its header."""
    whole = encoded(picture(), "PNG")
    return whole[:33] + data + whole[33:]


def many_frames(kind: str) -> Callable[[Path], None]:
    return saved(kind, save_all=True, append_images=[picture(1), picture(2)])


def with_transparency(path: Path) -> None:
    picture().quantize(16).save(path, "PNG", transparency=3)


def sparse(path: Path) -> None:
    with open(path, "wb") as stream:
        stream.truncate((512 << 20) + 1)


def text_bomb(path: Path) -> None:
    """Text in a PNG that inflates to 64 MB."""
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "x" * (64 << 20), zip=True)
    picture().save(path, "PNG", pnginfo=note)


def grey(dtype: Any, scale: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: Image.fromarray((np.asarray(image.convert("L")).astype(np.float64) * scale).astype(dtype))


def colours(mode: str) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.convert(mode)


JPEG = encoded(picture(), "JPEG", quality=95)
NOT_KNOWN = "not a picture in a known format"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(/tmp/x) (w) file\nshowpage\n%%EOF\n"

FORMATS = (
    Kind("grey", saved("PNG", colours("L"))),
    Kind("1 bit a pixel", saved("PNG", colours("1"))),
    Kind("palette", saved("PNG", colours("P"))),
    Kind("palette with transparency", with_transparency),
    Kind("alpha channel", saved("PNG", colours("RGBA"))),
    Kind("16 bits, grey PNG", saved("PNG", grey(np.uint16, 257))),
    Kind("32 bits, grey TIFF", saved("TIFF", grey(np.int32, 257)), name=b"picture.tif"),
    Kind("floating point TIFF", saved("TIFF", grey(np.float32, 1 / 255)), name=b"picture.tif"),
    Kind("CMYK JPEG", saved("JPEG", colours("CMYK")), name=b"picture.jpg"),
    Kind("CMYK TIFF", saved("TIFF", colours("CMYK")), name=b"picture.tif"),
    Kind("Lab TIFF", saved("TIFF", colours("LAB")), name=b"picture.tif"),
    Kind("progressive JPEG", saved("JPEG", progressive=True), name=b"picture.jpg"),
    Kind("animated GIF: its first frame", many_frames("GIF"), name=b"picture.gif"),
    Kind("animated WebP: its first frame", many_frames("WEBP"), name=b"picture.webp"),
    Kind("animated PNG: its first frame", many_frames("PNG")),
    Kind("TIFF of several pages: its first page", many_frames("TIFF"), name=b"picture.tiff"),
    Kind("WebP", saved("WEBP"), name=b"picture.webp"),
    Kind("BMP", saved("BMP"), name=b"picture.bmp"),
    Kind("JPEG 2000", saved("JPEG2000"), name=b"picture.jp2"),
    Kind("TGA", saved("TGA"), name=b"picture.tga"),
    Kind("PPM", saved("PPM"), name=b"picture.ppm"),
    Kind("AVIF, where Pillow reads it (releases since 11.3)", written(base64.b64decode(AVIF)), name=b"picture.avif", needs="avif"),
    Kind("HEIC, without a plug-in that reads it", written(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), NOT_KNOWN, b"picture.heic"),
    *(Kind(f"EXIF orientation {n}", oriented(n), name=b"picture.jpg") for n in (*range(1, 9), 99)),
    Kind("a PNG called .jpg", saved("PNG"), name=b"picture.jpg"),
    Kind("1 × 1", lambda path: picture(size=(1, 1)).save(path)),
    Kind("1 × 20,000", lambda path: picture(size=(1, 20_000)).save(path)),
    Kind("20,000 × 1", lambda path: picture(size=(20_000, 1)).save(path)),
)  # fmt: skip
DAMAGE = (
    Kind("zero bytes", written(b""), "the file is empty"),
    Kind("text called .jpg", written(b"I am no picture.\n"), NOT_KNOWN, b"picture.jpg"),
    Kind("a web page called .jpg", written(b"<html><body>404 not found</body></html>"), NOT_KNOWN, b"picture.jpg"),
    Kind("JPEG cut in its middle", written(JPEG[:-60]), "image file is truncated", b"picture.jpg"),
    Kind("JPEG cut in its header", written(JPEG[:30]), "Truncated File Read", b"picture.jpg"),
    Kind("PNG cut in its middle", written(encoded(picture(), "PNG")[:200]), "truncated"),
    Kind("GIF cut in its middle", written(encoded(picture(), "GIF")[:-40]), "truncated", b"picture.gif"),
    Kind("TIFF cut in its middle", written(encoded(picture(), "TIFF")[:900]), "image file is truncated", b"picture.tif"),
    Kind("WebP cut in its middle", written(encoded(picture(), "WEBP", lossless=True)[:300]), "could not create decoder",
         b"picture.webp"),
    Kind("noise behind a JPEG's first bytes", written(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8), NOT_KNOWN, b"picture.jpg"),
    Kind("broken EXIF", saved("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03" * 9), name=b"picture.jpg"),
    Kind("a colour profile of noise", saved("JPEG", icc_profile=bytes(range(256)) * 4), name=b"picture.jpg"),
    Kind("PNG with a wrong checksum beside the picture", written(inserted(chunk(b"tEXt", b"a\0b", wrong=1))), NOT_KNOWN),
    Kind("PNG whose text inflates to 64 MB", text_bomb, "too large"),
    Kind("60,000 × 3,000 in 57 bytes (bomb)", written(png_header(60_000, 3_000) + chunk(b"IEND", b"")),
         "more than the 178,956,970 pixels that are decoded"),
    Kind("2 billion × 2 billion (bomb)", written(png_header(2**31 - 1, 2**31 - 1) + chunk(b"IEND", b"")),
         "more than the 178,956,970 pixels that are decoded"),
    Kind("GIF of 65,535 × 65,535 (bomb)", written(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;"),
         "more than the 178,956,970 pixels that are decoded", b"picture.gif"),
    Kind("512 MB and one byte", sparse, "more than the 536,870,912 that are read"),
    Kind("PostScript called .jpg (never handed to Ghostscript)", written(EPS), NOT_KNOWN, b"picture.jpg"),
    Kind("SVG called .png", written(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), NOT_KNOWN),
)  # fmt: skip
PLACES = (
    Kind("link to a picture", linked_picture),
    Kind("link to nowhere", link("nowhere.png"), "No such file"),
    Kind("link to itself", link("picture.png"), "symbolic links"),
    Kind("link to a FIFO", linked_fifo, "a FIFO, not a regular file"),
    Kind("link to /dev/zero", link("/dev/zero"), "a device, not a regular file"),
    Kind("link to a terminal", link("/dev/tty"), "OSError"),
    Kind("link to a folder", link("/"), "passed over: a folder"),
    Kind("FIFO", lambda path: os.mkfifo(path), "passed over: neither file nor folder"),
    Kind("folder", lambda path: path.mkdir(), "passed over: a folder"),
    Kind("hidden file", saved("PNG"), "passed over: hidden", b".picture.png"),
    Kind("Thumbs.db", saved("PNG"), "passed over: without a picture suffix", b"Thumbs.db"),
    Kind("picture without a suffix", saved("PNG"), "passed over: without a picture suffix", b"picture"),
)
NAMES = tuple(
    Kind(f"name {what}", saved("PNG"), name=name + b".png")
    for what, name in {
        "in Chinese": "猫".encode(), "in Arabic": "قطة".encode(), "in emoji": "🐈‍⬛".encode(),
        "with an accent apart": "e\u0301".encode(),
        "that is not UTF-8": b"c\xff\xfe", "that looks like an escaped byte": b"c%FF%FE", "of half a character": b"\xe7\x8c",
        "with escaped UTF-8": b"caf%C3%A9", "with spaces": b" two  spaces ", "with quotes": b"\"quoted\" 'too'", "with a comma": b"a,b",
        "with a newline": b"a\nb", "with a carriage return": b"a\rb", "with a tab": b"\ttab", "that is a formula": b"=1+1",
        "that is an option": b"--strict", "with a backslash": b"a\\b", "with control characters": b"\x01\x1b[31m\x7f",
        "with markup": b"<script>alert(1)<!--", "with braces": b"{0}%s$HOME`id`", "with a byte order mark": "\ufeffa".encode(),
        "from right to left": "\u202eabc".encode(), "of 255 bytes": b"n" * 251, "in capitals": b"CAPITALS.PNG",
        "of a suffix alone but one": b"a.jpg", "of a number": b"00012", "NA": b"NA",
    }.items()
)  # fmt: skip
KINDS = {"Kinds of pictures": FORMATS, "Broken pictures": DAMAGE, "Links and other things": PLACES, "Names": NAMES}
