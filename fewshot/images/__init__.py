"""Pictures to tensors: transforms, views, augmentation. `episodes.decoding` makes pictures of files."""
