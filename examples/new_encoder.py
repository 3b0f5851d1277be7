"""An encoder of one's own: `python examples/new_encoder.py [FOLDER]`.

An encoder is a stem, a list of blocks and a head; the base class gives unit-norm embeddings, freezing, the cache's fingerprint and all
that is built on them. This one has random weights, so that it needs no download: what it reaches is what random filters reach.
"""

from collections.abc import Iterator

import torch
from drawn import class_folders
from torch import Tensor, nn

from episodes import EpisodeSampler, evaluate, read_class_folders
from fewshot import FeatureScorer, VisionEncoder, build_classifier, embed_images, load_encoder


class SmallConvNet(VisionEncoder):
    """The four convolution blocks of Vinyals et al. 2016 (arXiv 1606.04080), 64 channels wide."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.name, self.embed_dim, self.image_size = "small-conv-net", 2 * width, 64
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU(), nn.MaxPool2d(2))
            for _ in range(depth)
        )
        self.blocks = list(self.layers)
        self.head = nn.Linear(width, 2 * width)
        self.unfreeze_last(0)
        self.eval()

    def _stem(self, images: Tensor) -> Tensor:
        return self.stem(images)

    def _head(self, hidden: Tensor) -> Tensor:
        return self.head(hidden.mean((2, 3)))

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """What is trained together with the last blocks."""
        yield from self.head.parameters()


def main() -> None:
    """Embed pictures with it, and with `tiny`; the same episodes for both."""
    table = read_class_folders(class_folders())
    sampler = EpisodeSampler(table, ways=5, shots=5, queries=5, episodes=200)
    torch.manual_seed(0)
    for encoder in (SmallConvNet(), load_encoder("tiny")):
        scorer = FeatureScorer(embed_images(encoder, table.items), build_classifier("prototype"))
        print(f"{encoder.name:<15}", evaluate(sampler, scorer).summary())


if __name__ == "__main__":
    main()
