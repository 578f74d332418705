"""Subset retraining: many ordinary networks on random subsets, the judge of every estimate."""

from turnover.retraining.lds import lds, lds_interval

__all__ = ["lds", "lds_interval"]
