"""Which training examples ordinary networks are retrained without."""
