"""Influence of training examples on targets: every pair, in tiles. Positive: helpful; the shape is [train, target]."""
