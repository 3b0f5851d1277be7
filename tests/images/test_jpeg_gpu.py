"""JPEG decoding on the device: torchvision's decoder for the processor stands where a GPU's would, Pillow is the reference."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode

from episodes.decoding import UnreadableImage, decode
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import embed_images
from fewshot.encoders import VisionEncoder, load_encoder
from fewshot.images.jpeg_gpu import (
    TOLERANCE,
    GpuDecoder,
    check_pictures,
    checked,
    distance,
    gpu_decoder,
    nvjpeg,
    read_header,
    turned,
)
from fewshot.images.transform import clip_tensors, normalise, resize_and_crop

SIZE = 64
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def encoder() -> VisionEncoder:
    return load_encoder("tiny")


class Torchvision:
    """torchvision's decoder, which notes how many pictures it was given at a time and refuses some files."""

    def __init__(self, refused: bytes | None = None) -> None:
        self.given: list[int] = []
        self._refused = refused

    def __call__(self, files: list[Tensor]) -> list[Tensor]:
        self.given.append(len(files))
        if any(data.numpy().tobytes() == self._refused for data in files):
            raise RuntimeError("nvjpegDecode failed")
        return [torch.ops.image.decode_jpeg(data, ImageReadMode.RGB.value, False) for data in files]


def on_cpu(decode: Torchvision | None = None, size: int = SIZE) -> GpuDecoder:
    return GpuDecoder(torch.device("cpu"), size, decode or Torchvision())


def smooth(width: int, height: int) -> Image.Image:
    """A coloured picture without the edges at which decoders differ in how they spread colour."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(x / 17 + phase) * np.cos(y / 23 + 2 * phase) for phase in (0, 1, 2)]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))


def jpeg(image: Image.Image, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 92, **settings})
    return buffer.getvalue()


def oriented(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return jpeg(image, exif=exif)


DECODED_ON_DEVICE = {
    "plain": jpeg(smooth(120, 90)),
    "tall": jpeg(smooth(91, 233)),
    "half colour": jpeg(smooth(131, 77), subsampling=2),
    "progressive": jpeg(smooth(128, 96), progressive=True),
    "grey": jpeg(smooth(100, 80).convert("L")),
    "exact size": jpeg(smooth(SIZE, SIZE)),
    "enlarged": jpeg(smooth(40, 30)),
    **{f"orientation {number}": oriented(smooth(110, 70), number) for number in range(1, 9)},
}


@pytest.mark.parametrize("kind", DECODED_ON_DEVICE)
def test_the_device_gives_the_processor_s_pixels(kind: str) -> None:
    data, decode = DECODED_ON_DEVICE[kind], Torchvision()
    (found,) = on_cpu(decode)([data])
    (expected,) = clip_tensors([data], SIZE)
    assert isinstance(found, Tensor) and isinstance(expected, Tensor)
    assert decode.given == [1] and found.shape == expected.shape and found.dtype == torch.uint8
    apart = (found.int() - expected.int()).float()
    assert apart.abs().max() <= 2 and apart.mean().abs() < 0.2  # rounded, not cut


def test_a_picture_beyond_twice_the_size_is_close_to_its_reduced_decoding() -> None:
    """The processor decodes it at a half; the device in full."""
    data = jpeg(smooth(900, 700))
    parts = [part for part in (*on_cpu()([data]), *clip_tensors([data], SIZE)) if isinstance(part, Tensor)]
    assert (parts[0].int() - parts[1].int()).abs().max() <= 6


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9, 77])
def test_orientations_are_pillow_s(orientation: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    stored = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
    assert np.array_equal(turned(stored, orientation).permute(1, 2, 0).numpy(), upright)


def without_markers(data: bytes) -> bytes:
    """The file without its JFIF and Adobe markers (APP0, APP14)."""
    kept, place = data[:2], 2
    while data[place + 1] != 0xDA:  # until the scan starts
        length = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] not in (0xE0, 0xEE):
            kept += data[place : place + length]
        place += length
    return kept + data[place:]


def left_to_the_processor() -> dict[str, bytes]:
    png = io.BytesIO()
    smooth(50, 40).save(png, "PNG")
    whole = jpeg(smooth(120, 90))
    return {
        "png": png.getvalue(),
        "cmyk": jpeg(smooth(60, 50).convert("CMYK")),
        "rgb without transform": jpeg(smooth(60, 50), keep_rgb=True),
        "rgb by the names of its components": without_markers(jpeg(smooth(60, 50), keep_rgb=True)),
        "thread": jpeg(smooth(1500, 9)),
        "more than 32 times the size": jpeg(smooth(2100, 2070)),
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not a picture",
        "header alone": b"\xff\xd8\xff\xd9",
    }


@pytest.mark.parametrize("kind", left_to_the_processor())
def test_what_the_device_is_not_made_for_is_as_ever(kind: str) -> None:
    data, decode = left_to_the_processor()[kind], Torchvision()
    (found,), (expected,) = on_cpu(decode)([data]), clip_tensors([data], SIZE)
    if isinstance(expected, Tensor):
        assert isinstance(found, Tensor) and torch.equal(found, expected)
    else:
        assert isinstance(found, UnreadableImage) and str(found) == str(expected)
    assert decode.given == []


def test_every_file_gets_its_own_place() -> None:
    """Kinds mixed in one call: results stay in order, and one file that the decoder refuses spoils no other."""
    files = [*DECODED_ON_DEVICE.values(), *left_to_the_processor().values()]
    files = [files[i] for i in np.random.default_rng(1).permutation(len(files))]
    refused = DECODED_ON_DEVICE["tall"]
    decode = Torchvision(refused)
    found, expected = on_cpu(decode)(files), clip_tensors(files, SIZE)
    assert decode.given == [len(DECODED_ON_DEVICE)] + [1] * len(DECODED_ON_DEVICE)
    for data, ours, theirs in zip(files, found, expected, strict=True):
        if isinstance(theirs, Tensor):
            assert isinstance(ours, Tensor)
            assert (ours.int() - theirs.int()).abs().max() <= (0 if data == refused else 2)
        else:
            assert str(ours) == str(theirs)


def test_few_large_pictures_are_decoded_at_a_time() -> None:
    """The device's memory is bounded: 16 million pixels together."""
    decode, large = Torchvision(), jpeg(Image.new("RGB", (3000, 2000), "teal"))
    giant = jpeg(Image.new("RGB", (4100, 4000), "teal"))  # alone beyond that
    found = on_cpu(decode)([large, giant, *[large] * 4])
    assert decode.given == [2, 2, 1] and all(isinstance(part, Tensor) for part in found)


def test_headers_say_what_pillow_says() -> None:
    assert read_header(jpeg(smooth(31, 17)), SIZE) == (31 * 17, 1)
    assert read_header(oriented(smooth(31, 17), 6), SIZE) == (31 * 17, 6)
    assert read_header(jpeg(smooth(31, 17)) + b"\0\0\0", SIZE) == (31 * 17, 1)
    assert read_header(without_markers(jpeg(smooth(31, 17))), SIZE) == (31 * 17, 1)
    assert read_header(jpeg(smooth(31, 17))[:-2], SIZE) is None


def test_a_folder_by_either_decoder(encoder: VisionEncoder, tmp_path: Path) -> None:
    """Embeddings within 1e-3, and the same files reported."""
    files = [*DECODED_ON_DEVICE.values(), *left_to_the_processor().values(), *check_pictures()]
    paths = []
    for number, data in enumerate(files):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(data)
    decode = Torchvision()
    by_device = embed_images(encoder, paths, precision="32", decoding=on_cpu(decode, encoder.image_size))
    by_processor = embed_images(encoder, paths, precision="32", decoding="cpu")
    assert sum(decode.given) == len(DECODED_ON_DEVICE) + len(check_pictures())
    assert by_device.problems == by_processor.problems and len(by_device.problems) == 4
    seen = by_processor.readable
    assert ((by_device.features * by_processor.features).sum(1)[seen] > 1 - 1e-3).all()


def test_the_check_takes_a_faithful_decoder_and_refuses_others() -> None:
    faithful = on_cpu()
    assert distance(faithful, SIZE) < 0.5 and checked(faithful, SIZE) is faithful

    def swapped(files: list[Tensor]) -> list[Tensor]:
        return [pixels.flip(0) for pixels in Torchvision()(files)]

    for decoder in (swapped, Torchvision(check_pictures()[2])):
        with pytest.warns(UserWarning, match="decoded by the processor"):
            assert checked(GpuDecoder(torch.device("cpu"), SIZE, decoder), SIZE) is None


def test_what_the_check_lets_pass_moves_no_embedding_far(encoder: VisionEncoder) -> None:
    """Errors of what is tolerated, in each pixel alone or in patches of colour, move embeddings by less than 1e-3 (cosine)."""
    size, generator = encoder.image_size, torch.Generator().manual_seed(0)
    pictures = torch.stack([torch.from_numpy(resize_and_crop(decode(data), size)) for data in check_pictures()])
    noise = torch.randn(pictures.shape, generator=generator)
    patches = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    with torch.inference_mode():
        before = encoder(normalise(pictures, encoder))
        for error in (noise, patches - patches.mean(1, keepdim=True)):
            error[-1] = noise[-1, :1]  # the last picture is grey, and so are a decoder's errors in it
            moved = pictures + TOLERANCE * error / error.square().mean((1, 2, 3), keepdim=True).sqrt()
            after = encoder(normalise(moved.clamp(0, 255), encoder))
            assert ((before * after).sum(1) > 1 - 1e-3).all()


def test_without_a_gpu_there_is_no_such_decoder() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gpu_decoder(torch.device("cpu"), SIZE) is None


def test_it_is_used_unless_exactness_is_asked_for_and_has_cache_entries_of_its_own(
    encoder: VisionEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gpu_decoder` is made to answer as on a machine with a GPU."""
    paths = []
    for number, data in enumerate(check_pictures()):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(data)
    given = Torchvision()
    monkeypatch.setattr("fewshot.embedding.embed.gpu_decoder", lambda device, size: on_cpu(given, size))
    cache = EmbeddingCache(tmp_path / "cache.sqlite")
    assert embed_images(encoder, paths, precision="32", cache=cache).computed == len(paths)
    assert given.given == []
    assert embed_images(encoder, paths, precision="bf16", cache=cache).computed == len(paths)
    assert sum(given.given) == len(paths)
    assert embed_images(encoder, paths, precision="bf16", cache=cache).computed == 0
    assert embed_images(encoder, paths, precision="bf16", cache=cache, decoding="cpu").computed == len(paths)
    assert sum(given.given) == len(paths)


def test_out_of_memory_is_not_a_reason_for_other_pixels() -> None:
    def full(files: list[Tensor]) -> list[Tensor]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        GpuDecoder(torch.device("cpu"), SIZE, full)([DECODED_ON_DEVICE["plain"]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nvjpeg(tmp_path: Path) -> None:
    """Where there is a GPU whose decoder torchvision has: it works, and its embeddings are within 1e-3 of the processor's."""
    encoder = load_encoder("tiny", device="cuda")
    decode_jpegs = nvjpeg(encoder.device)
    assert decode_jpegs is not None
    decoder = GpuDecoder(encoder.device, encoder.image_size, decode_jpegs)
    paths = []
    for number, data in enumerate([*DECODED_ON_DEVICE.values(), *check_pictures()] * 20):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(data + bytes(number))  # zeros behind the end: other bytes, the same picture
    card = embed_images(encoder, paths, precision="32", decoding=decoder).features
    processor = embed_images(encoder, paths, precision="32", decoding="cpu").features
    assert ((card * processor).sum(1) > 1 - 1e-3).all()
