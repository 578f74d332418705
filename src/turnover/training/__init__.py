"""The turn-over training loop, its settings, checkpoints and recorders."""
