"""Data: where images come from, and how their labels are made random."""

from turnover.data.labels import randomize
from turnover.data.sources import NAMES, DataError, Dataset, LabelledImages, fetch, load

__all__ = ["NAMES", "DataError", "Dataset", "LabelledImages", "fetch", "load", "randomize"]
