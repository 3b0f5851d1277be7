"""Gradient-based meta-learning, to train with and to name queries with: ANIL, MAML, Meta-SGD and ProtoMAML.

Each takes a few gradient steps on the support set of every task anew, and training makes the place where they begin a good one.

T tasks, S support and Q query pictures a task, N ways, D embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from episodes import ImageTable
from episodes.evaluate import Score
from episodes.interop import import_learn2learn
from fewshot.adaptation.base import Classify, SupportViews, Tuned
from fewshot.adaptation.inner_loop import InnerLoop, Learner
from fewshot.adaptation.scorer import AdaptedScorer
from fewshot.adaptation.tail import Tail
from fewshot.classifiers import maths
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.classifiers.tasks import TaskBatch
from fewshot.config import TrainConfig
from fewshot.device import Precision
from fewshot.embedding.embed import Embeddings
from fewshot.embedding.hidden_states import HiddenStates
from fewshot.encoders.base import VisionEncoder
from fewshot.losses import prototypes

BLOCKS = 1  # of the encoder, at its end, that MAML, Meta-SGD and ProtoMAML step together with the head


class MetaLearner(nn.Module):
    """A gradient-based method, and what it learns beside the encoder: the rates of Meta-SGD.

    - "anil" steps the head alone (Raghu et al. 2020, arXiv 1909.09157);
    - "maml" the head and the encoder's last block with all that follows (Finn et al. 2017, arXiv 1703.03400);
    - "meta-sgd" the same, with a learned rate for every number (Li et al. 2017, arXiv 1707.09835);
    - "protomaml" the same as "maml", the head beginning at the task's prototypes (Triantafillou et al. 2020, arXiv 1903.03096). With unit
      norm its bias is the same for every class, so there is none.

    In the others the head begins at zero for every task (Kao et al. 2022, arXiv 2106.15367), so that a task may have any number of ways
    and the order of its classes does not matter. One learned vector for all classes (Ye & Chao 2022, arXiv 2106.16245) would be the
    same: what is added to every class's logit changes no probability.
    """

    def __init__(self, name: str, encoder: VisionEncoder, loop: InnerLoop) -> None:
        """Begin with every rate that of the loop.

        Args:
            name: "anil", "maml", "meta-sgd" or "protomaml".
            encoder: whose embeddings and last block these are.
            loop: rate, steps and order.

        Raises:
            UsageError: the encoder has no blocks.
        """
        super().__init__()
        self.name, self.loop = name, loop
        shapes = []
        if name == "meta-sgd":
            shapes = [parameter.shape for parameter in self.tail(encoder).parameters.values()]
            shapes.append(torch.Size([encoder.embed_dim]))
        self.rates = nn.ParameterList([nn.Parameter(torch.ones(shape)) for shape in shapes])

    @property
    def steps_encoder(self) -> bool:
        """Whether the inner loop steps the encoder's last block beside the head."""
        return self.name != "anil"

    def tail(self, encoder: VisionEncoder, precision: Precision = "auto") -> Tail:
        """The part of the encoder that the inner loop steps; see `Tail`."""
        return Tail(encoder, "blocks", BLOCKS, precision)

    def forward(
        self,
        features: Tensor,
        hidden: Tensor | None,
        support_labels: Tensor,
        n_way: int,
        scale: Tensor | float,
        tail: Tail | None = None,
        encoder_frozen: bool = False,
    ) -> Tensor:
        """Logits of the queries of T training episodes, each by a head (and a last block) of its own.

        Args:
            features: (T, S + Q, D) embeddings before any step.
            hidden: (T, S + Q, ...) hidden states before the last block; None where the loop steps the head alone.
            support_labels: (T, S) in [0, N), -1 for padding.
            n_way: N.
            scale: factor on the logits.
            tail: of the encoder; None where the loop steps the head alone.
            encoder_frozen: no gradient into the encoder.

        Returns:
            (T, Q, N) float32; -inf for a class that an episode of fewer ways does not have.
        """
        inputs = features if hidden is None else hidden
        tensors: dict[str, Tensor] = {} if tail is None else dict(tail.parameters)
        if encoder_frozen:
            tensors = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
        answers = []
        for embedded, given, labels in zip(features, inputs, support_labels, strict=True):
            known = labels >= 0
            rows = known.nonzero().flatten()
            learner = self._learner(tail, tensors, embedded[rows], labels[known], scale)
            stepped = self._step(learner, given[rows], labels[known], self.loop)
            logits = stepped(given[len(labels) :])
            answers.append(F.pad(logits, (0, n_way - logits.shape[1]), value=float("-inf")))
        return torch.stack(answers)

    def adapt(
        self, support: Tensor, hidden: Tensor | None, labels: Tensor, scale: float, tail: Tail | None = None
    ) -> Learner:
        """The learner of one new task, detached from everything.

        Args:
            support: (S, D) embeddings of the support pictures.
            hidden: (S, ...) their hidden states before the last block; None where the loop steps the head alone.
            labels: (S,) in [0, N), every class at least once.
            scale: factor on the logits.
            tail: of the encoder; None where the loop steps the head alone.
        """
        tensors = (
            {} if tail is None else {name: value.detach().requires_grad_() for name, value in tail.initial.items()}
        )
        given = support if hidden is None else hidden
        learner = self._learner(tail, tensors, support, labels, scale)
        return self._step(learner, given, labels, dataclasses.replace(self.loop, first_order=True))  # no outer gradient

    def _learner(
        self, tail: Tail | None, tensors: Mapping[str, Tensor], support: Tensor, labels: Tensor, scale: Tensor | float
    ) -> Learner:
        ways = int(labels.max()) + 1
        if self.name == "protomaml":
            head = prototypes(support.unsqueeze(0).float(), labels.unsqueeze(0), ways)[0]
        else:
            head = torch.zeros(ways, support.shape[1], device=support.device)
        if not head.requires_grad:
            head = head.detach().requires_grad_()
        return Learner(tail, tensors, head, scale)

    def _step(self, learner: Learner, given: Tensor, labels: Tensor, loop: InnerLoop) -> Learner:
        rates = None
        if len(self.rates):
            *of_tensors, of_head = (loop.rate * rate for rate in self.rates)
            rates = [*of_tensors, of_head.expand_as(learner.head)]
        return loop(learner, given, labels, rates)


def method_of(config: TrainConfig, encoder: VisionEncoder) -> MetaLearner | None:
    """What names queries by the settings of a run: None for prototypes.

    Raises:
        UsageError: learn2learn, by whose algorithms it works, is not installed.
    """
    if config.method == "prototypical":
        return None
    import_learn2learn()
    return MetaLearner(config.method, encoder, InnerLoop(config.inner_lr, config.inner_steps, config.first_order))


@dataclass(frozen=True, eq=False)
class AdaptedHead:
    """ANIL as a few-shot classifier over embeddings: a linear head, stepped on the support set of each task.

    Attributes:
        method: what was learned.
        scale: factor on the logits.
    """

    method: MetaLearner
    scale: float
    transductive: ClassVar[bool] = False

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See `Classifier`."""
        heads = []
        support = maths.unit(tasks.support).float()
        for embedded, labels, known in zip(support, tasks.support_labels, tasks.known, strict=True):
            heads.append(self.method.adapt(embedded[known], None, labels[known], self.scale).head.detach())
        anchors = self.scale * torch.stack(heads)
        return maths.log_probabilities(maths.products(maths.unit(tasks.query).float(), anchors))


@dataclass(frozen=True, eq=False)
class MetaAdapter:
    """MAML, Meta-SGD and ProtoMAML as a `TaskAdapter`: the stepped last block, and the stepped head that names the queries.

    Attributes:
        method: what was learned.
        scale: factor on the logits.
    """

    method: MetaLearner
    scale: float
    views: ClassVar[int] = 0

    def tail(self, encoder: VisionEncoder, precision: Precision = "auto") -> Tail:
        """See `TaskAdapter`."""
        return self.method.tail(encoder, precision)

    def __call__(self, tail: Tail, support: SupportViews, classify: Classify) -> Tuned:
        """See `TaskAdapter`."""
        embedded = tail.embed(tail.initial, support.plain)
        stepped = self.method.adapt(embedded, support.plain, support.labels, self.scale, tail)
        tensors = {name: value.detach() for name, value in stepped.tensors.items()}
        return Tuned(tensors, self.method.loop.rate, self.scale * stepped.head.detach())


class Naming(NamedTuple):
    """How a method names the queries of new tasks.

    Attributes:
        name: of the method.
        classifier: over embeddings; beside an adapter it names what the adapter leaves alone, such as tasks of one class.
        adapter: where the encoder is stepped too, what does that.
    """

    name: str
    classifier: AdaptedHead | Prototype
    adapter: MetaAdapter | None


def naming(method: MetaLearner, scale: float) -> Naming:
    """How a method names the queries of new tasks.

    Args:
        method: what was learned.
        scale: factor on the logits.

    Returns:
        Its name, a classifier and, where the encoder is stepped too, an adapter.
    """
    if method.steps_encoder:
        return Naming(method.name, Prototype(), MetaAdapter(method, scale))
    return Naming(method.name, AdaptedHead(method, scale), None)


def score_of(
    method: MetaLearner,
    scale: float,
    encoder: VisionEncoder,
    table: ImageTable,
    embeddings: Embeddings,
    *,
    precision: Precision = "auto",
    hidden_states: HiddenStates | None = None,
) -> Score:
    """The `score` of `episodes.evaluate` by which a method names queries; later changes of the encoder do not reach it.

    Args:
        method: what was learned.
        scale: factor on the logits.
        encoder: on the device that computes.
        table: the episodes' table.
        embeddings: of its rows, by the encoder.
        precision: see `fewshot.device.resolve_precision`.
        hidden_states: of its rows, behind blocks that training leaves alone; None computes them of the pictures.
    """
    _, classifier, adapter = naming(method, scale)
    if adapter is None:
        return FeatureScorer(embeddings, classifier, device=encoder.device)
    scorer = partial(FeatureScorer, classifier=classifier, device=encoder.device)
    return AdaptedScorer(encoder, adapter, table, embeddings, scorer, precision=precision, hidden_states=hidden_states)
