"""Batches on their way through anybody's network: checks, layout, outputs and losses, in training and in reading."""
