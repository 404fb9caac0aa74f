"""Batches, the training loop, weights on disk."""
