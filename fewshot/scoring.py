"""From embeddings and a few-shot classifier to the `score` that `episodes.evaluate` calls.

T tasks, S support and Q query pictures a task, N ways, D embedding width, n pictures in all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from episodes.episode import EpisodeBatch
from fewshot.classifiers.base import Classifier
from fewshot.embeddings import Embeddings

Floats = npt.NDArray[np.float32]


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
        device: str | torch.device = "cpu",
    ) -> None:
        """Args:
        embeddings: of every row of the episodes' table.
        classifier: the few-shot method.
        class_text: class name -> (D,) text embedding, for classifiers that use names.
        device: where classification runs.
        """
        self.classifier = classifier
        self._features = embeddings.features.to(device)
        self._readable = embeddings.readable.to(device)
        self._class_text = class_text
        self._device = torch.device(device)

    def __call__(self, batch: EpisodeBatch) -> Floats:
        """T episodes -> (T, Q, N) float32 log-probabilities, N the largest way; -inf beyond an episode's own ways."""
        ways = int(batch.n_way.max())
        result = np.full((*batch.query.shape, max(ways, 1)), -np.inf, dtype=np.float32)
        for n_way in np.unique(batch.n_way):
            tasks = np.flatnonzero(batch.n_way == n_way)
            if n_way == 0:
                result[tasks] = np.nan
            else:
                result[tasks, :, :n_way] = self._score(batch, tasks, int(n_way))
        return result

    def _score(self, batch: EpisodeBatch, tasks: npt.NDArray[np.int64], n_way: int) -> Floats:
        """(T', Q, n_way) of the tasks that have just `n_way` classes."""
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
            scored = self.classifier(
                self._features[support[members].clamp_min(0)],
                lookup[labels[members]],
                self._features[query[members].clamp_min(0)],
                mask[members],
                len(classes),
                self._text(batch, tasks[members.cpu().numpy()], classes),
            )
            part = scores[members]
            part[..., classes] = scored.to(scores.dtype)
            scores[members] = part
        scores[~mask | ~present.any(1, keepdim=True)] = float("nan")
        return scores.cpu().numpy()

    def _text(self, batch: EpisodeBatch, tasks: npt.NDArray[np.int64], classes: Tensor) -> Tensor | None:
        """(T', N', D) text embeddings of the classes, where there are any."""
        if self._class_text is None:
            return None
        ids = batch.class_ids[tasks][:, classes.cpu().numpy()]
        rows = [torch.stack([self._class_text[batch.vocabulary[i]] for i in row]) for row in ids]
        return torch.stack(rows).to(self._device)


def _groups(present: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Tasks grouped by which of their classes have support: (task indices, class indices). Nearly always one group."""
    if bool(present.all()):
        yield torch.arange(len(present), device=present.device), torch.arange(present.shape[1], device=present.device)
        return
    patterns, which = torch.unique(present, dim=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        yield (which == i).nonzero().flatten(), pattern.nonzero().flatten()
