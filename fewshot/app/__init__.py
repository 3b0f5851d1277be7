"""The interactive page of `fewshot app`: pictures of a few classes in, names of other pictures out (needs the extra `app`)."""
