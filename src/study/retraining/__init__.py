"""Retraining ordinary networks on subsets: the judge of every estimate."""
