"""What of the tuning is kept: the best mix of old and new weights, and only where it is surely better than the old ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from episodes import PairedDifference, Results, paired_difference
from fewshot.embedding.embed import Embeddings
from fewshot.encoders.base import VisionEncoder
from fewshot.training.validation import Validation

ALPHAS = (0.25, 0.5, 0.75, 1.0)


def interpolate(original: dict[str, Tensor], tuned: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) * original + alpha * tuned, tensor by tensor.

    WiSE-FT: Wortsman et al. 2022, arXiv 2109.01903. alpha 1 gives the tuned weights bit for bit.
    """
    if alpha == 1:
        return dict(tuned)
    return {name: (1 - alpha) * original[name] + alpha * value for name, value in tuned.items()}


def set_weights(encoder: VisionEncoder, values: dict[str, Tensor]) -> None:
    """Overwrite some of the encoder's parameters, in place."""
    parameters = dict(encoder.named_parameters())
    for name, value in values.items():
        parameters[name].data.copy_(value)


@dataclass(frozen=True, eq=False)
class Selection:
    """The outcome.

    Attributes:
        alpha: of the best mix; 0 where the untouched encoder is kept.
        swept: alpha -> validation results.
        difference: best mix minus untouched, on episodes that the choice did not see.
        embeddings: the validation embeddings under the kept weights.
    """

    alpha: float
    swept: dict[float, Results]
    best_alpha: float
    difference: PairedDifference
    embeddings: Embeddings


def select(
    encoder: VisionEncoder,
    original: dict[str, Tensor],
    tuned: dict[str, Tensor],
    validation: Validation,
    untouched: Embeddings,
    mix: float | None = None,
) -> Selection:
    """Sweep WiSE-FT's alpha on the validation episodes, then decide on fresh ones against the untouched encoder.

    Leaves `encoder` with the weights that are kept. The tuned side is kept only where the lower bound of the 95 % interval of
    the paired difference is above 0: fine-tuning must not leave anyone worse off. `mix` keeps that mix whatever comes out.
    """
    swept: dict[float, Results] = {}
    embedded: dict[float, Embeddings] = {}
    alphas = ALPHAS if mix is None else (mix,)
    for alpha in alphas:
        set_weights(encoder, interpolate(original, tuned, alpha))
        embedded[alpha] = validation.embed(encoder)
        swept[alpha] = validation.measure(embedded[alpha])
    best = max(alphas, key=lambda alpha: swept[alpha].mean)
    difference = paired_difference(
        validation.measure(embedded[best], purpose=1).accuracy, validation.measure(untouched, purpose=1).accuracy
    )
    keep = mix is not None or difference.mean - difference.ci95 > 0
    set_weights(encoder, interpolate(original, tuned, best) if keep else original)
    return Selection(best if keep else 0.0, swept, best, difference, embedded[best] if keep else untouched)
