"""A page to look at what was found: held-out examples and what shaped them, training examples and what became of them."""
