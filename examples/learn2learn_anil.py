"""learn2learn's own example of ANIL on class folders: `python examples/learn2learn_anil.py [FOLDER]`.

examples/vision/anil_fc100.py of learn2learn 0.2.0 (MIT licence, by learn2learn's authors), with its data sets, their transforms
and task sets replaced by the lines between the two rulers. The rest is theirs, its accuracy on test tasks moved to the end.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision as tv
from torch import Tensor, nn

from episodes import EpisodeSampler, ImageTable, read_class_folders
from episodes.interop import import_learn2learn, to_taskset

l2l = import_learn2learn()


def accuracy(predictions: Tensor, targets: Tensor) -> Tensor:
    """The share of right predictions."""
    predictions = predictions.argmax(dim=1).view(targets.shape)
    return (predictions == targets).sum().float() / targets.size(0)


def fast_adapt(
    batch: tuple[Tensor, Tensor],
    learner: Any,
    features: Callable[[Tensor], Tensor],
    loss: Any,
    adaptation_steps: int,
    shots: int,
    ways: int,
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of one task after adaptation."""
    data, labels = batch
    data = features(data)

    # Separate data into adaptation/evaluation sets
    adaptation_indices = np.zeros(data.size(0), dtype=bool)
    adaptation_indices[np.arange(shots * ways) * 2] = True
    evaluation_indices = torch.from_numpy(~adaptation_indices)
    chosen = torch.from_numpy(adaptation_indices)
    adaptation_data, adaptation_labels = data[chosen], labels[chosen]
    evaluation_data, evaluation_labels = data[evaluation_indices], labels[evaluation_indices]

    for _ in range(adaptation_steps):
        train_error = loss(learner(adaptation_data), adaptation_labels)
        learner.adapt(train_error)

    predictions = learner(evaluation_data)
    valid_error = loss(predictions, evaluation_labels)
    return valid_error, accuracy(predictions, evaluation_labels)


def main(
    train: ImageTable,
    test: ImageTable,
    ways: int = 5,
    shots: int = 5,
    meta_lr: float = 0.001,
    fast_lr: float = 0.1,
    adapt_steps: int = 5,
    meta_bsz: int = 32,
    iters: int = 1000,
    test_tasks: int = 600,
    seed: int = 42,
) -> float:
    """Train, print as learn2learn's example does, and return the accuracy on tasks of the test classes."""
    random.seed(seed)
    torch.manual_seed(seed)

    # ---------------------------------------------------------------------------------------------- the task sets
    transform = tv.transforms.Compose([tv.transforms.Resize((32, 32)), tv.transforms.ToTensor()])
    train_tasks = to_taskset(EpisodeSampler(train, ways=ways, shots=shots, queries=shots, episodes=20000), transform)
    test_set = to_taskset(EpisodeSampler(test, ways=ways, shots=shots, queries=shots, episodes=test_tasks), transform)
    # ------------------------------------------------------------------------------------------------------------

    # Create model
    model = l2l.vision.models.CNN4(output_size=ways, hidden_size=64, embedding_size=64 * 4)
    features = model.features
    head = l2l.algorithms.MAML(model.classifier, lr=fast_lr)

    # Setup optimization
    all_parameters = list(features.parameters()) + list(head.parameters())
    optimizer = torch.optim.Adam(all_parameters, lr=meta_lr)
    loss = nn.CrossEntropyLoss(reduction="mean")

    for iteration in range(iters):
        optimizer.zero_grad()
        meta_train_error, meta_train_accuracy = 0.0, 0.0
        for _ in range(meta_bsz):
            learner = head.clone()
            evaluation_error, evaluation_accuracy = fast_adapt(
                train_tasks.sample(), learner, features, loss, adapt_steps, shots, ways
            )
            evaluation_error.backward()
            meta_train_error += evaluation_error.item()
            meta_train_accuracy += evaluation_accuracy.item()
        print("Iteration", iteration)
        print("Meta Train Error", meta_train_error / meta_bsz)
        print("Meta Train Accuracy", meta_train_accuracy / meta_bsz)

        # Average the accumulated gradients and optimize
        for parameter in all_parameters:
            parameter.grad.data.mul_(1.0 / meta_bsz)
        optimizer.step()

    found = [fast_adapt(task, head.clone(), features, loss, adapt_steps, shots, ways)[1].item() for task in test_set]
    print("Meta Test Accuracy", np.mean(found))
    return float(np.mean(found))


def drawn(root: Path) -> Path:
    """Class folders of stripes in as many colours, for a first look."""
    generator = np.random.default_rng(0)
    for label in range(10):
        (root / f"class{label}").mkdir(parents=True)
        tone = generator.uniform(60, 195, 3)
        for number in range(12):
            pixels = np.tile(tone, (32, 32, 1)) + generator.normal(0, 40, (32, 32, 3))
            pixels[:: 2 + label] *= 0.6
            tv.transforms.functional.to_pil_image(pixels.clip(0, 255).astype(np.uint8)).save(
                root / f"class{label}" / f"{number}.png"
            )
    return root


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        given = len(sys.argv) > 1
        table = read_class_folders(sys.argv[1] if given else drawn(Path(folder) / "drawn"))
        classes = range(len(table.class_names))
        half = len(classes) // 2
        settings: dict[str, int] = {} if given else {"meta_bsz": 4, "iters": 5, "test_tasks": 20}
        main(table.select_classes(classes[:half]), table.select_classes(classes[half:]), **settings)
