"""Few-shot image classification with CLIP: encoders, episodic training, few-shot classifiers, prediction.

Names are imported when first used, so that `import fewshot` and the command line's help cost no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.augment import Augmentation as Augmentation
    from fewshot.classifiers import build_classifier as build_classifier
    from fewshot.embeddings import Embeddings as Embeddings
    from fewshot.embeddings import embed_images as embed_images
    from fewshot.encoders import VisionEncoder as VisionEncoder
    from fewshot.encoders import load_encoder as load_encoder
    from fewshot.estimator import FewShotClassifier as FewShotClassifier
    from fewshot.heads import ResidualClassifier as ResidualClassifier
    from fewshot.images import normalise as normalise
    from fewshot.loader import EpisodeLoader as EpisodeLoader
    from fewshot.loader import EpisodeTensors as EpisodeTensors
    from fewshot.losses import class_loss as class_loss
    from fewshot.losses import prototypical_logits as prototypical_logits
    from fewshot.losses import prototypical_loss as prototypical_loss
    from fewshot.scoring import FeatureScorer as FeatureScorer
    from fewshot.training import TrainConfig as TrainConfig
    from fewshot.training import load_checkpoint as load_checkpoint
    from fewshot.training import train as train

__version__ = "0.1.0"

_HOME = {
    "build_classifier": "fewshot.classifiers",
    "Embeddings": "fewshot.embeddings",
    "embed_images": "fewshot.embeddings",
    "VisionEncoder": "fewshot.encoders",
    "load_encoder": "fewshot.encoders",
    "FewShotClassifier": "fewshot.estimator",
    "ResidualClassifier": "fewshot.heads",
    "Augmentation": "fewshot.augment",
    "normalise": "fewshot.images",
    "EpisodeLoader": "fewshot.loader",
    "EpisodeTensors": "fewshot.loader",
    "class_loss": "fewshot.losses",
    "prototypical_loss": "fewshot.losses",
    "prototypical_logits": "fewshot.losses",
    "FeatureScorer": "fewshot.scoring",
    "TrainConfig": "fewshot.training",
    "load_checkpoint": "fewshot.training",
    "train": "fewshot.training",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fewshot' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
