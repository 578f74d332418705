"""The explorer, live: a new image is dropped on it, and the training examples behind its prediction answer."""
