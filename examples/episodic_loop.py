"""An episodic training loop of one's own: `python examples/episodic_loop.py [TRAIN_FOLDER TEST_FOLDER]`.

The engine draws episodes and loads their pictures; the step in the middle is yours.
"""

import torch
from drawn import class_folders

from episodes import EpisodeSampler, Results, evaluate, paired_difference, read_class_folders
from fewshot import (
    EpisodeLoader,
    FeatureScorer,
    VisionEncoder,
    build_classifier,
    embed_images,
    load_encoder,
    normalise,
    prototypical_loss,
)

STEPS = 8


def main() -> None:
    """Measure, train, measure again on the same episodes of classes that training never saw."""
    train, test = read_class_folders(class_folders("train")), read_class_folders(class_folders("test"))
    held_out = EpisodeSampler(test, ways=5, shots=1, queries=5, episodes=200, seed=1)
    encoder = load_encoder("tiny")

    def measure(encoder: VisionEncoder) -> Results:
        scorer = FeatureScorer(embed_images(encoder, test.items), build_classifier("prototype"))
        return evaluate(held_out, scorer)

    before = measure(encoder)
    encoder.unfreeze_last(1)
    tuned = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(tuned, lr=1e-5)
    sampler = EpisodeSampler(train, ways=8, shots=1, queries=3, episodes=STEPS)
    for step in EpisodeLoader(sampler, encoder.image_size, workers=0):
        support, query = step.split(encoder(normalise(step.images, encoder)))  # one pass for both
        loss = prototypical_loss(support, step.support_labels, query, step.query_labels, step.n_way)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = measure(encoder)
    print("before ", before.summary())
    print("after  ", after.summary())
    print("gain   ", paired_difference(after, before).summary())


if __name__ == "__main__":
    main()
