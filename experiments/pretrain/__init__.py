"""The making of the small CLIP that ships with the package; `experiments.pretrain_tiny_clip` runs it."""
