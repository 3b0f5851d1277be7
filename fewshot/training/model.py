"""The joint objective: prototypical loss and the residual classifier's cross-entropy on the features of one encoder pass."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.adaptation.meta import BLOCKS, MetaLearner
from fewshot.adaptation.tail import Tail
from fewshot.device import Precision
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.heads import ResidualClassifier
from fewshot.images.transform import normalise
from fewshot.losses import class_loss, nca_loss, prototypical_logits, squared_distance

INITIAL_SCALE = 10.0


class StepLosses(NamedTuple):
    """What a training step returns: scalars, float32; `accuracy` is that of the queries in their episodes.

    `share` is the episodes' part of the gradient that reaches the embeddings, from 0 to 1; NaN where it was not measured.
    """

    total: Tensor
    prototypical: Tensor
    classes: Tensor
    accuracy: Tensor
    share: Tensor


class EpisodicModel(nn.Module):
    """Encoder, residual classifier over the C training classes, and the learned scale of the prototypical logits."""

    def __init__(
        self,
        encoder: VisionEncoder,
        n_classes: int,
        *,
        dropout: float = 0.1,
        prototypical_weight: float = 1.0,
        class_weight: float = 1.0,
        label_smoothing: float = 0.0,
        episode_loss: Literal["prototypical", "nca"] = "prototypical",
        scale: Literal["learned", "fixed"] = "learned",
        anchor: float = 0.0,
        residual: bool = True,
        method: MetaLearner | None = None,
        seed: int = 0,
    ) -> None:
        """Join the encoder with the learned scale and the residual classifier, drawn from the seed.

        Args:
            encoder: its unfrozen part is trained.
            n_classes: C.
            dropout: of the residual classifier.
            prototypical_weight: of the prototypical loss.
            class_weight: of the classifier's loss.
            label_smoothing: of the classifier's targets.
            episode_loss: queries against prototypes, or NCA over all pairs of the batch.
            scale: whether the factor on the cosine is learned.
            anchor: weight of half the squared distance to the weights as they are now (L2-SP: Li et al. 2018, arXiv 1802.01483).
            residual: the classifier's connection around its first layer.
            method: names an episode's queries by gradient steps on its support; None names them by prototypes.
            seed: of the classifier's initial weights.
        """
        super().__init__()
        self.encoder = encoder
        self.cached_blocks: int | None = None  # behind how many blocks the hidden states come that stand for pictures
        self._computed_in = torch.float32
        self._trunks: tuple[VisionEncoder, ...] = ()  # in a tuple, so that it is no part of this module
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classifier = ResidualClassifier(encoder.embed_dim, n_classes, dropout, residual)
        self.method = method
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)), requires_grad=scale == "learned")
        self.episode_loss, self.anchor = episode_loss, anchor
        self._anchors = {n: p.detach().clone() for n, p in encoder.named_parameters() if p.requires_grad and anchor}
        self.prototypical_weight, self.class_weight = prototypical_weight, class_weight
        self.label_smoothing = label_smoothing

    @property
    def scale(self) -> Tensor:
        """The positive factor on the cosine."""
        return self.log_scale.exp()

    def forward(
        self,
        images: Tensor,
        support_labels: Tensor,
        query_labels: Tensor,
        classes: Tensor,
        n_way: int,
        dropout_key: int,
        encoder_frozen: bool = False,
        measure_share: bool = False,
    ) -> StepLosses:
        """Losses of one step of T episodes with S support and Q query pictures each; labels of -1 are padding.

        Args:
            images: (T * (S + Q), 3, H, W) uint8, as `EpisodeTensors.images`; or floating hidden states behind `cached_blocks`.
            support_labels: (T, S) in [0, n_way).
            query_labels: (T, Q) in [0, n_way).
            classes: (T * (S + Q),) in [0, C), the training classes of `images`.
            n_way: N.
            dropout_key: seeds the classifier's dropout, so that a step is a function of its number.
            encoder_frozen: no gradient into the encoder, while the classifier warms up.
            measure_share: measure what each loss's gradient is at the embeddings.
        """
        self._computed_in = _compute_dtype(images.device.type)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not encoder_frozen):
            features, hidden = self._embed(images)
        with torch.autocast(features.device.type, enabled=False):
            logits = self._logits(features, hidden, support_labels, n_way, encoder_frozen)
            if self.episode_loss == "nca":
                there = classes >= 0
                prototypical = nca_loss(features[there], classes[there], self.scale)
            else:
                prototypical = F.cross_entropy(logits.flatten(0, 1), query_labels.flatten(), ignore_index=-1)
            generator = torch.Generator().manual_seed(dropout_key)
            class_part = class_loss(self.classifier(features, generator), classes, self.label_smoothing)
            known = query_labels >= 0
            accuracy = (logits.detach().argmax(-1) == query_labels)[known].float().mean()
            halves = self.prototypical_weight * prototypical, self.class_weight * class_part
            measured = measure_share and hidden is None  # a stepped last block is not behind these embeddings
            share = _share(*halves, features) if measured else features.new_tensor(float("nan"))
            total = halves[0] + halves[1]
            if self.anchor and not encoder_frozen:
                total = total + 0.5 * self.anchor * squared_distance(
                    dict(self.encoder.named_parameters()), self._anchors
                )
        return StepLosses(total, prototypical.detach(), class_part.detach(), accuracy, share)

    def _logits(
        self, features: Tensor, hidden: Tensor | None, support_labels: Tensor, n_way: int, encoder_frozen: bool
    ) -> Tensor:
        """(T, Q, N) of the queries, by prototypes or by the method; features (T * (S + Q), D) and hidden states are those of `_embed`."""
        tasks, shots = support_labels.shape
        parts = features.view(tasks, -1, features.shape[1])
        if self.method is None:
            return prototypical_logits(parts[:, :shots], support_labels, parts[:, shots:], n_way, self.scale)
        given = None if hidden is None else hidden.view(tasks, -1, *hidden.shape[1:])
        logits: Tensor = self.method(
            parts, given, support_labels, n_way, self.scale, self._tail(hidden), encoder_frozen
        )
        return logits

    def _embed(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pictures, or hidden states in their place, to (B, D) embeddings; gradients reach the unfrozen part only.

        With them come the (B, ...) hidden states before the last block, where the method steps that; None elsewhere.
        """
        encoder = self.encoder
        if encoder.stem_frozen:
            with torch.no_grad():
                hidden = self._hidden(images)
        else:
            hidden = encoder.forward_trunk(normalise(images, encoder), 0)
        start = encoder.n_frozen if encoder.stem_frozen else 0
        if self.method is None or not self.method.steps_encoder:
            return encoder.forward_tail(hidden, start), None
        stop = len(encoder.blocks) - BLOCKS
        hidden = encoder.forward_blocks(hidden, start, stop)
        return encoder.forward_tail(hidden, stop), hidden

    def _tail(self, hidden: Tensor | None) -> Tail | None:
        """The part that the method steps, in the precision of the hidden states that it is given."""
        if hidden is None or self.method is None:
            return None
        precisions: dict[torch.dtype, Precision] = {torch.bfloat16: "bf16", torch.float16: "16"}
        return self.method.tail(self.encoder, precisions.get(self._computed_in, "32"))

    def _hidden(self, images: Tensor) -> Tensor:
        """What the frozen part makes of pictures, or of hidden states that were taken behind fewer blocks."""
        encoder, stop = self.encoder, self.encoder.n_frozen
        dtype = _compute_dtype(images.device.type)
        if not self._trunks and self.cached_blocks != stop:
            # The frozen part never changes: a copy has its weights cast once instead of in every step.
            self._trunks = (encoder.inference_copy(dtype),)
        if not images.is_floating_point():
            return self._trunks[0].forward_trunk(normalise(images, encoder), stop)
        if self.cached_blocks is None:
            raise ValueError("the model got hidden states, but cached_blocks does not say behind which block")
        hidden = images.to(dtype)  # fabric widens what it passes on; it was computed in this type
        return (
            hidden if self.cached_blocks == stop else self._trunks[0].forward_blocks(hidden, self.cached_blocks, stop)
        )


def _share(first: Tensor, second: Tensor, features: Tensor) -> Tensor:
    """Norm of the first loss's gradient at the (B, D) embeddings over the sum of both norms; NaN where none reaches them."""
    if not features.requires_grad:
        return features.new_tensor(float("nan"))
    norms = [torch.autograd.grad(loss, features, retain_graph=True)[0].norm() for loss in (first, second)]
    share: Tensor = norms[0] / (norms[0] + norms[1])
    return share.detach()


def _compute_dtype(kind: str) -> torch.dtype:
    """The type that autocast computes in on this kind of device; float32 outside of it."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
