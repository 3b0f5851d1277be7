"""A few-shot classifier of one's own: `python examples/new_classifier.py [FOLDER]`.

A classifier is a frozen dataclass that maps a `TaskBatch` to log-probabilities. This one lets the support pictures vote, each with a
weight that falls with its distance to the query (a kernel-density classifier; Parzen 1962).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from drawn import class_folders
from torch import Tensor

from episodes import EpisodeSampler, evaluate, paired_difference, read_class_folders
from fewshot import FeatureScorer, build_classifier, embed_images, load_encoder
from fewshot.classifiers import maths
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("parzen", "support pictures vote, the near ones more")
@dataclass(frozen=True)
class Parzen:
    """Score of a class = log of the mean of exp(`scale` x cosine) over its support pictures."""

    scale: float = 20.0
    transductive: ClassVar[bool] = False

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """(T, Q, N) log-probabilities."""
        closeness = self.scale * maths.cosines(tasks.query, tasks.support)  # (T, Q, S)
        votes = closeness.unsqueeze(-1) + tasks.membership.unsqueeze(1).log()  # (T, Q, S, N): -inf for other classes
        density = torch.logsumexp(votes, 2) - tasks.membership.sum(1, keepdim=True).log()
        return maths.log_probabilities(density)


def main() -> None:
    """Compare it with the prototype on the same episodes."""
    table = read_class_folders(class_folders())
    embeddings = embed_images(load_encoder("tiny"), table.items)
    sampler = EpisodeSampler(table, ways=5, shots=5, queries=5, episodes=200)
    results = {
        name: evaluate(sampler, FeatureScorer(embeddings, build_classifier(name))) for name in ("parzen", "prototype")
    }
    for name, found in results.items():
        print(f"{name:<10}", found.summary())
    print("difference", paired_difference(results["parzen"], results["prototype"]).summary())


if __name__ == "__main__":
    main()
