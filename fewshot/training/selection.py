"""What of the tuning is kept: the best mix of old and new weights, and only where it is surely better than the old ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from episodes import PairedDifference, Results, paired_difference
from episodes.wording import counted
from fewshot.embedding.embed import Embeddings
from fewshot.encoders.base import VisionEncoder
from fewshot.training.held_out import NEW_CLASSES
from fewshot.training.validation import Purpose, Validation

ALPHAS = (0.25, 0.5, 0.75, 1.0)
UNCHOSEN_ALPHA = 0.5  # where classes are too few to choose: Wortsman et al.'s advice without data


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
        swept: alpha -> results on the classes that choose.
        best_alpha: the mix that was decided on.
        untouched, tuned: results of both on the classes that decide, which chose nothing.
        embeddings: the validation embeddings under the kept weights.
    """

    alpha: float
    swept: dict[float, Results]
    best_alpha: float
    untouched: Results
    tuned: Results
    embeddings: Embeddings

    @property
    def difference(self) -> PairedDifference:
        """Best mix minus untouched, on the classes that decide."""
        return paired_difference(self.tuned, self.untouched)

    @property
    def half_width(self) -> float | None:
        """Of the difference's 95 % interval over such classes; None where they are too few to tell."""
        width = self.difference.ci95_new_classes
        return None if math.isnan(width) else width

    @property
    def kept(self) -> Results:
        """Results of what was kept, on the classes that decide."""
        return self.tuned if self.alpha else self.untouched


def surely_better(difference: PairedDifference) -> bool:
    """Whether the 95 % interval over classes lies above 0; no where classes are too few for one."""
    return difference.mean - difference.ci95_new_classes > 0


def select(
    encoder: VisionEncoder,
    original: dict[str, Tensor],
    tuned: dict[str, Tensor],
    validation: Validation,
    untouched: Embeddings,
    mix: float | None = None,
) -> Selection:
    """Sweep WiSE-FT's alpha on the classes that choose, then decide on the others against the untouched encoder.

    Leaves `encoder` with the weights that are kept. The tuned side is kept only where it is surely better on classes that chose
    nothing: fine-tuning must not leave anyone worse off. Where no classes choose, half of the tuning is decided on. `mix` keeps that
    mix whatever comes out.
    """
    swept: dict[float, Results] = {}
    embedded: dict[float, Embeddings] = {}
    alphas = ALPHAS if mix is None else (mix,)
    for alpha in alphas:
        set_weights(encoder, interpolate(original, tuned, alpha))
        embedded[alpha] = validation.embed(encoder)
        swept[alpha] = validation.measure(embedded[alpha])
    chosen = max(alphas, key=lambda alpha: swept[alpha].mean)
    best = chosen if validation.choosing or mix is not None else UNCHOSEN_ALPHA
    before, after = (validation.measure(each, Purpose.DECIDE) for each in (untouched, embedded[best]))
    keep = mix is not None or surely_better(paired_difference(after, before))
    set_weights(encoder, interpolate(original, tuned, best) if keep else original)
    return Selection(best if keep else 0.0, swept, best, before, after, embedded[best] if keep else untouched)


def verdict(selection: Selection, epoch: int, about: str, classes: int, *, asked: bool = False) -> str:
    """What was kept and why, in a sentence.

    Args:
        selection: the outcome.
        epoch: whose weights were mixed.
        about: what validation can say something of.
        classes: how many classes decided.
        asked: the mix was asked for and kept whatever came out.
    """
    kept = f"kept the tuned encoder of epoch {epoch} (mix {selection.alpha:.2f})"
    gain, width = 100 * selection.difference.mean, selection.half_width
    untested = "; it was not tested on new classes" if about != NEW_CLASSES else ""
    if asked:
        sure = "" if width is None else f" ± {100 * width:.2f}"
        return f"{kept}, as asked: {gain:+.2f}{sure} points over {counted(classes, 'validation class', 'validation classes')}{untested}"
    if width is None:
        return (
            f"kept the untouched encoder: {counted(classes, 'validation class', 'validation classes')} cannot tell whether tuning helps on "
            f"{about} (three can); {gain:+.2f} points on these{untested}"
        )
    measured = f"{gain:+.2f} ± {100 * width:.2f} points over {classes} validation classes that chose nothing{untested}"
    if selection.alpha:
        return f"{kept}: surely better on {about}, {measured}"
    return f"kept the untouched encoder: tuning is not surely better on {about}, {measured}"
