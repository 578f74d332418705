"""Subset retraining: many ordinary networks, each trained on its own subset of the same examples."""

from turnover.retraining.lds import lds, lds_interval
from turnover.retraining.loop import Factory, Recipe
from turnover.retraining.many import train_many
from turnover.retraining.subsets import SplitHalf, SubsetOutputs, draw_subsets

__all__ = ["Factory", "Recipe", "SplitHalf", "SubsetOutputs", "draw_subsets", "lds", "lds_interval", "train_many"]
