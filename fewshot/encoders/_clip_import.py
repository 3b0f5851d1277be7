"""Import OpenAI's `clip` package, whether or not setuptools still ships `pkg_resources`.

`clip` (2.x on the registry as `clip-anytorch`) begins with `from pkg_resources import packaging`. New setuptools no longer
has that module, and old ones warn about it. A stand-in with the one attribute is put in place while `clip` is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

_MODULE, _MODEL = "pkg_resources", "clip.model"


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
    """The module `clip.model`: CLIP, VisionTransformer, ModifiedResNet, build_model.

    It is loaded from its file, without the package around it, whose import takes seconds: that brings torchvision, and with it
    the compiler of torch.

    Raises:
        ImportError: `clip` is not installed; the message says how to install the right build.
    """
    if "clip" in sys.modules:
        return importlib.import_module("clip.model")
    if _MODEL not in sys.modules:
        spec = importlib.util.spec_from_file_location(_MODEL, clip_folder() / "model.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules.setdefault(_MODEL, module)  # the package, if it is imported later, takes this one
    return sys.modules[_MODEL]


def clip_folder() -> Path:
    """Where the `clip` package lies, which is not imported.

    Raises:
        ImportError: it is not installed, or another package of that name is.
    """
    spec = importlib.util.find_spec("clip")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        if all((Path(folder) / name).is_file() for name in ("model.py", "clip.py")):
            return Path(folder)
    what = "is not installed" if spec is None else f"is not OpenAI's ({spec.origin})"
    raise ImportError(f"the package clip {what}. Install its maintained build with: pip install 'clip-anytorch>=2'")
