"""Few-shot image classification with CLIP: encoders, episodic training, few-shot classifiers, prediction.

Names are imported when first used, so that `import fewshot` and the command line's help cost no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fewshot.version import __version__

if TYPE_CHECKING:
    from fewshot.checkpoint import load_checkpoint as load_checkpoint
    from fewshot.classifiers import build_classifier as build_classifier
    from fewshot.classifiers.estimator import FewShotClassifier as FewShotClassifier
    from fewshot.classifiers.scoring import FeatureScorer as FeatureScorer
    from fewshot.embedding.embed import Embeddings as Embeddings
    from fewshot.embedding.embed import embed_images as embed_images
    from fewshot.encoders import VisionEncoder as VisionEncoder
    from fewshot.encoders import load_encoder as load_encoder
    from fewshot.encoders.heads import ResidualClassifier as ResidualClassifier
    from fewshot.image_embedder import ImageEmbedder as ImageEmbedder
    from fewshot.images.augmentation import Augmentation as Augmentation
    from fewshot.images.transform import normalise as normalise
    from fewshot.losses import class_loss as class_loss
    from fewshot.losses import prototypical_logits as prototypical_logits
    from fewshot.losses import prototypical_loss as prototypical_loss
    from fewshot.model import FewShot as FewShot
    from fewshot.training import TrainConfig as TrainConfig
    from fewshot.training import train as train
    from fewshot.training.loader import EpisodeLoader as EpisodeLoader
    from fewshot.training.loader import EpisodeTensors as EpisodeTensors


_HOME = {
    "FewShot": "fewshot.model",
    "ImageEmbedder": "fewshot.image_embedder",
    "build_classifier": "fewshot.classifiers",
    "Embeddings": "fewshot.embedding.embed",
    "embed_images": "fewshot.embedding.embed",
    "VisionEncoder": "fewshot.encoders",
    "load_encoder": "fewshot.encoders",
    "FewShotClassifier": "fewshot.classifiers.estimator",
    "ResidualClassifier": "fewshot.encoders.heads",
    "Augmentation": "fewshot.images.augmentation",
    "normalise": "fewshot.images.transform",
    "EpisodeLoader": "fewshot.training.loader",
    "EpisodeTensors": "fewshot.training.loader",
    "class_loss": "fewshot.losses",
    "prototypical_loss": "fewshot.losses",
    "prototypical_logits": "fewshot.losses",
    "FeatureScorer": "fewshot.classifiers.scoring",
    "TrainConfig": "fewshot.training",
    "load_checkpoint": "fewshot.checkpoint",
    "train": "fewshot.training",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fewshot' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
