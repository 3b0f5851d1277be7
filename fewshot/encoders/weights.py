"""Read a weights file as tensors and nothing else: no code in it ever runs.

OpenAI's releases are TorchScript archives: a zip of raw tensor storages, a pickle that arranges them, and code. The pickle is
read with an allow-list that knows tensors and containers; the code is not read at all. Plain state dicts go through
`torch.load(weights_only=True)`, and `.safetensors` files are safe by design.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from episodes.errors import DataError
from fewshot.tensors import load_tensors, refuse_not_finite

_MOST_INFLATION, _SLACK = 4, 64 << 20  # times the file's size, and bytes for small files
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_WRAPPERS = ("state_dict", "model_state_dict", "model")


class _Node:
    """A stand-in for a scripted module that keeps only its attributes."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _as_list(values: Any) -> list[Any]:
    return list(values)


class _ArchiveUnpickler(pickle._Unpickler):
    """Unpickles the object tree of a TorchScript archive; anything but tensors, containers and module shells is refused.

    It is the unpickler in Python, as torch's own is: that in C takes as much memory as ten bytes ask for (a number in its memo). The
    one instruction that does so in Python, a mutable string of bytes of any length, is refused.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self._archive, self._root = archive, root
        self._loaded: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return type(name, (_Node,), {})
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _rebuild_parameter
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module == "torch.jit._pickle" and name in (
            "build_intlist",
            "build_tensorlist",
            "build_doublelist",
            "build_boollist",
        ):
            return _as_list
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which a weights file has no need of")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self._loaded:
            raw = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._loaded[key] = torch.frombuffer(raw, dtype=dtype)[:count] if raw else torch.empty(0, dtype=dtype)
        return self._loaded[key]


def _flatten(node: _Node, prefix: str, into: dict[str, Tensor]) -> None:
    for key, value in node.attributes.items():
        if isinstance(value, Tensor):
            into[prefix + key] = value
        elif isinstance(value, _Node):
            _flatten(value, f"{prefix}{key}.", into)


def _read_torchscript(path: Path, archive: zipfile.ZipFile, pickle_name: str) -> dict[str, Tensor]:
    with archive.open(pickle_name) as file:
        tree = _ArchiveUnpickler(file, archive, pickle_name.removesuffix("data.pkl")).load()  # type: ignore[arg-type]
    if not isinstance(tree, _Node):
        raise DataError(f"{path}: expected a scripted module, found {type(tree).__name__}")
    state: dict[str, Tensor] = {}
    _flatten(tree, "", state)
    # Attention masks are attributes of the scripted blocks, not part of the state dict.
    return {key: value for key, value in state.items() if not key.endswith("attn_mask")}


def _unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict itself, out of the dictionaries in which training scripts keep it."""
    for key in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise DataError(f"{path}: expected a dictionary of tensors (a state dict), found {type(loaded).__name__}")
    return {str(key).removeprefix("module."): value for key, value in loaded.items() if isinstance(value, Tensor)}


def read_weights(path: str | Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a weights file by name: a TorchScript archive, a plain state dict, or `.safetensors`.

    Args:
        path: The file.
        sha256: What the SHA-256 of a `.safetensors` file must be, where that is known.

    Returns:
        Tensors of any shapes, by name.

    Raises:
        DataError: The file is missing, broken, holds anything but tensors, or numbers that are not finite; names the path.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        return load_tensors(path, sha256)[0]
    try:
        state = _read(path)
    except DataError:
        raise
    except Exception as error:  # every way in which a file can be broken ends in one message with its path
        size = path.stat().st_size
        raise DataError(
            f"{path}: cannot be read as weights ({size:,} bytes; {type(error).__name__}: {str(error)[:200]}). Expected a file in OpenAI's "
            "format (TorchScript archive or state dict) or .safetensors; a download that broke off looks like this: fetch it again"
        ) from error
    _refuse_spread(state, path)
    refuse_not_finite(state, path)
    return state


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive or of what `torch.save` wrote."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _refuse_bomb(path, archive)
            names = archive.namelist()
            pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) > 1:
                raise DataError(
                    f"{path}: holds {len(pickles)} archives in one ({', '.join(pickles[:3])}); expected one"
                )
            if pickles and any(name == pickles[0].replace("data.pkl", "constants.pkl") for name in names):
                return _read_torchscript(path, archive, pickles[0])
    return _unwrap(torch.load(path, map_location="cpu", weights_only=True), path)


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """Look at the sizes in the archive's directory, before a byte is inflated.

    Raises:
        DataError: Inflated it would be far larger than its file. Weights are stored as they are, and hardly shrink where not.
    """
    inflated, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
    most = _MOST_INFLATION * size + _SLACK
    if inflated > most:
        raise DataError(
            f"{path}: would inflate from {size:,} to {inflated:,} bytes, which weights never do. It is no weights file"
        )


def _refuse_spread(state: dict[str, Tensor], path: Path) -> None:
    """Refuse tensors that show few stored numbers as many: a small file would fill the memory.

    Raises:
        DataError: There is one; names it.
    """
    for name, tensor in state.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DataError(
                f"{path}: {name} claims the shape {tuple(tensor.shape)}, but the file holds only {tensor.untyped_storage().nbytes():,} "
                "bytes for it. It is no weights file"
            )
