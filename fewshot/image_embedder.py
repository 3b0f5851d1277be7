"""`ImageEmbedder`: pictures to features as a step of scikit-learn's pipelines, by the same encoders and cache as the commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from episodes.errors import DataError
from fewshot.device import Precision, resolve_device
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import embed_images
from fewshot.images.in_memory import Picture, picture_bytes, picture_name
from fewshot.opening import open_either


class ImageEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pictures in, features out, as a scikit-learn transformer: the first step of a pipeline before any classifier.

    `make_pipeline(ImageEmbedder("lite2"), FewShotClassifier())` is a whole few-shot classifier. It needs no fitting. What it
    takes are pictures, not numbers, so scikit-learn's `check_estimator`, which feeds matrices, does not apply to it.

    Args:
        backbone: a backbone's name, or the folder of a checkpoint.
        device: auto, cpu, cuda, ...
        precision: arithmetic of the encoder, see `fewshot.embed_images`.
        embed_views: views a picture; None for the checkpoint's number, or one.
        cache: keep embeddings on disk, where the commands keep theirs.
    """

    def __init__(
        self,
        backbone: str = "ViT-B/32",
        *,
        device: str = "auto",
        precision: Precision = "auto",
        embed_views: int | None = None,
        cache: bool = True,
    ) -> None:
        self.backbone = backbone
        self.device = device
        self.precision = precision
        self.embed_views = embed_views
        self.cache = cache

    def fit(self, X: Sequence[Picture], y: Any = None) -> ImageEmbedder:
        """Open the encoder; its weights are read when a picture is not cached yet. The pictures are not looked at.

        Raises:
            UsageError: no such backbone.
            DataError: its weights are missing or broken.
        """
        self.encoder_ = open_either(
            self.backbone,
            resolve_device(self.device),
            embed_views=self.embed_views,
            download_root=None,
            cache=self._cache(),
        ).encoder
        self.n_features_out_ = self.encoder_.embed_dim
        return self

    def transform(self, X: Sequence[Picture]) -> npt.NDArray[np.float32]:
        """(n, D) float32 features of unit norm of n pictures.

        Raises:
            DataError: a picture cannot be read; names it.
        """
        if not hasattr(self, "encoder_"):
            self.fit(X)
        pictures = list(X)
        found = embed_images(self.encoder_, pictures, precision=self.precision, cache=self._cache(), read=picture_bytes)
        if found.problems:
            row, problem = next(iter(found.problems.items()))
            raise DataError(
                f"{len(found.problems)} of {len(pictures)} pictures cannot be read; the first is "
                f"{picture_name(pictures[row], row)} ({problem})"
            )
        features: npt.NDArray[np.float32] = found.features.numpy()
        return features

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """(D,) names: the backbone's with a number."""
        return np.array([f"{self.backbone}_{number}" for number in range(self.n_features_out_)], dtype=object)

    def _cache(self) -> EmbeddingCache | None:
        return EmbeddingCache() if self.cache else None

    def __sklearn_is_fitted__(self) -> bool:
        return True  # an encoder is trained already

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags
