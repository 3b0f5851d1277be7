"""Import OpenAI's `clip` package, whether or not setuptools still ships `pkg_resources`.

`clip` (2.x on the registry as `clip-anytorch`) begins with `from pkg_resources import packaging`. New setuptools no longer
has that module, and old ones warn about it. A stand-in with the one attribute is put in place while `clip` is imported.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

_MODULE = "pkg_resources"


def import_clip() -> Any:
    """The `clip` package.

    Raises:
        ImportError: `clip` is not installed; the message says how to install the right build.
    """
    if "clip" in sys.modules:
        return sys.modules["clip"]
    stand_in = None
    if _MODULE not in sys.modules:
        packaging = importlib.import_module("packaging")
        importlib.import_module("packaging.version")
        stand_in = types.ModuleType(_MODULE)
        stand_in.packaging = packaging  # type: ignore[attr-defined]
        sys.modules[_MODULE] = stand_in
    try:
        clip = importlib.import_module("clip")
        if not hasattr(clip, "tokenize"):
            raise ImportError(f"the installed 'clip' ({clip.__file__}) is not OpenAI's CLIP")
        return clip
    except ImportError as error:
        raise ImportError(
            f"OpenAI's clip package could not be imported ({error}). Install its maintained build with: pip install 'clip-anytorch>=2'"
        ) from error
    finally:
        if stand_in is not None and sys.modules.get(_MODULE) is stand_in:
            del sys.modules[_MODULE]


def import_clip_model() -> Any:
    """The module `clip.model`: CLIP, VisionTransformer, ModifiedResNet, build_model."""
    import_clip()
    return importlib.import_module("clip.model")
