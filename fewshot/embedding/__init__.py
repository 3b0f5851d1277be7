"""Pictures to features: fixed-shape batches, the cache of embeddings, stored hidden states, several processes."""
