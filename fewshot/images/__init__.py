"""Picture files to tensors: decoding, transforms, augmentation."""
