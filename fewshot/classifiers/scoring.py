"""From embeddings and a few-shot classifier to the `score` that `episodes.evaluate` calls.

T tasks, S support and Q query pictures a task, N ways, D embedding width, n pictures in all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from episodes.episode import EpisodeBatch
from fewshot.classifiers import maths
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.calibration import apply_temperature
from fewshot.classifiers.kinds import Calibration, TaskTraits
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.tasks import TaskBatch
from fewshot.embedding.embed import Embeddings

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
_PART_BYTES = 8 << 20  # of features that are gathered at a time: about what a core's own cache holds


class FeatureScorer:
    """Gathers the rows of a batch of episodes and classifies them.

    Unreadable support pictures are left out; a class left without support gets log-probability -inf; a query without a
    picture, or in a task without any class, gets NaN, which means "no answer".
    """

    def __init__(
        self,
        embeddings: Embeddings,
        classifier: Classifier,
        *,
        class_text: dict[str, Tensor] | None = None,
        calibration: Calibration | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Take embeddings and classifier; where it can, prepare every row's unit vector once.

        Args:
            embeddings: of every row of the episodes' table.
            classifier: the few-shot method.
            class_text: class name -> (D,) text embedding, for classifiers that use names.
            calibration: gives the temperatures that divide log-probabilities; the order of the classes stays. None leaves them.
            device: where classification runs.
        """
        self.classifier = classifier
        self._calibration = calibration
        self._features = embeddings.features.to(device)
        self._readable = embeddings.readable.to(device)
        self._class_text = class_text
        self._device = torch.device(device)
        self._prototypes: RowPrototypes | None = None
        self._likeness: tuple[Floats, npt.NDArray[np.bool_]] | None = None  # of every row, once it is asked for
        if isinstance(classifier, Prototype) and classifier.metric == "cosine" and bool(embeddings.readable.all()):
            self._prototypes = RowPrototypes(self._features, classifier.scale)

    def __call__(self, batch: EpisodeBatch) -> Floats:
        """T episodes -> (T, Q, N) float32 log-probabilities, N that of `batch.class_ids`; -inf beyond an episode's own ways."""
        result = np.full((*batch.query.shape, batch.class_ids.shape[1]), -np.inf, dtype=np.float32)
        for n_way in np.unique(batch.n_way):
            tasks = np.flatnonzero(batch.n_way == n_way)
            if n_way == 0:
                result[tasks] = np.nan
                continue
            own = self._prototypes
            rows = own.rows(batch, tasks, int(n_way)) if own is not None else None
            for part in self._parts(batch, len(tasks)):
                if own is None or rows is None:
                    scores = self._score(batch, tasks[part], int(n_way))
                else:
                    scores = own(rows[0][part], rows[1][part])
                result[tasks[part], :, :n_way] = scores.cpu().numpy()
        if self._calibration is None or result.size == 0:
            return result
        return apply_temperature(result, self._calibration.temperature(self.traits(batch))).astype(np.float32)

    def traits(self, batch: EpisodeBatch) -> TaskTraits:
        """What of the episodes their calibration depends on; only with a calibration."""
        assert self._calibration is not None
        if self._likeness is None:
            self._likeness = self._calibration.likeness(self._features).cpu().numpy(), self._readable.cpu().numpy()
        return self._calibration.traits(batch, *self._likeness)

    def _parts(self, batch: EpisodeBatch, tasks: int) -> Iterator[slice]:
        """Parts whose gathered features stay in a core's cache: on a CPU, fetching them from memory costs most.

        A task's answer does not depend on the others in its part.
        """
        size = tasks
        if self._device.type == "cpu":
            row_bytes = self._features.shape[1] * self._features.element_size()
            size = max(1, _PART_BYTES // (row_bytes * (batch.support.shape[1] + batch.query.shape[1])))
        return (slice(start, start + size) for start in range(0, tasks, size))

    def _score(self, batch: EpisodeBatch, tasks: Integers, n_way: int) -> Tensor:
        """(T', Q, n_way) of the tasks that have just `n_way` classes, through the classifier's contract."""
        support = torch.from_numpy(batch.support[tasks]).to(self._device)
        labels = torch.from_numpy(batch.support_labels[tasks]).to(self._device)
        query = torch.from_numpy(batch.query[tasks]).to(self._device)
        labels = labels.where((support >= 0) & self._readable[support.clamp_min(0)], -1)
        mask = (query >= 0) & self._readable[query.clamp_min(0)]
        present = (labels.unsqueeze(-1) == torch.arange(n_way, device=self._device)).any(1)  # (T', N)
        scores = torch.full((*query.shape, n_way), float("-inf"), device=self._device)
        for members, classes in _groups(present):
            if len(classes) == 0:
                continue
            lookup = torch.full((n_way + 1,), -1, dtype=torch.int64, device=self._device)  # the last entry is for -1
            lookup[classes] = torch.arange(len(classes), device=self._device)
            part = TaskBatch(
                support=self._gather(support[members]),
                support_labels=lookup[labels[members]],
                query=self._gather(query[members]),
                query_mask=mask[members],
                n_way=len(classes),
                class_text=self._text(batch, tasks[members.cpu().numpy()], classes),
            )
            scored = self.classifier(part)
            if len(members) == len(tasks) and len(classes) == n_way:
                scores = scored.to(scores.dtype)
                continue
            answers = scores[members]
            answers[..., classes] = scored.to(scores.dtype)
            scores[members] = answers
        unanswered = ~mask | ~present.any(1, keepdim=True)
        if bool(unanswered.any()):
            scores[unanswered] = float("nan")
        return scores

    def _gather(self, rows: Tensor) -> Tensor:
        """(T, S) rows, -1 = padding -> (T, S, D) features; whole rows are copied, which plain indexing does not do."""
        return self._features.index_select(0, rows.clamp_min(0).flatten()).view(*rows.shape, -1)

    def _text(self, batch: EpisodeBatch, tasks: npt.NDArray[np.int64], classes: Tensor) -> Tensor | None:
        """(T', N', D) text embeddings of the classes, where there are any."""
        if self._class_text is None:
            return None
        ids = batch.class_ids[tasks][:, classes.cpu().numpy()]
        rows = [torch.stack([self._class_text[batch.vocabulary[i]] for i in row]) for row in ids]
        return torch.stack(rows).to(self._device)


class RowPrototypes:
    """`Prototype` over rows of stored features: normalised once for all episodes, and support summed as it is fetched."""

    def __init__(self, features: Tensor, scale: float) -> None:
        """Normalise every row once.

        Args:
            features: (n, D), all of them readable.
            scale: of the cosine.
        """
        self._unit = maths.unit(maths.working(features))
        self._scale = scale
        self._room = self._unit.new_empty(0, self._unit.shape[1])

    def rows(self, batch: EpisodeBatch, tasks: Integers, n_way: int) -> tuple[Tensor, Tensor] | None:
        """Support (T, N, K) and query (T, Q) rows of tasks without padding and with as many shots of each class; else None."""
        support, labels, query = batch.support, batch.support_labels, batch.query
        if len(tasks) < len(batch):
            support, labels, query = support[tasks], labels[tasks], query[tasks]
        shots, rest = divmod(support.shape[1], n_way)
        in_order = rest == 0 and bool((labels == np.repeat(np.arange(n_way), shots)).all())
        if not in_order or bool((support < 0).any() or (query < 0).any()):
            return None
        device = self._unit.device
        return torch.from_numpy(support).to(device).view(-1, n_way, shots), torch.from_numpy(query).to(device)

    def __call__(self, support: Tensor, query: Tensor) -> Tensor:
        """(T, N, K) and (T, Q) rows -> (T, Q, N) log-probabilities."""
        anchors = maths.unit(F.embedding_bag(support.flatten(0, 1), self._unit, mode="sum")).view(
            *support.shape[:2], -1
        )
        places = query.numel()
        if len(self._room) < places:
            self._room = self._unit.new_empty(places, self._unit.shape[1])
        queries = torch.index_select(self._unit, 0, query.flatten(), out=self._room[:places]).view(*query.shape, -1)
        return maths.log_probabilities(self._scale * maths.products(queries, anchors))


def _groups(present: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Tasks grouped by which of their classes have support: (task indices, class indices). Nearly always one group."""
    if bool(present.all()):
        yield torch.arange(len(present), device=present.device), torch.arange(present.shape[1], device=present.device)
        return
    patterns, which = torch.unique(present, dim=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        yield (which == i).nonzero().flatten(), pattern.nonzero().flatten()
