"""Influence of training examples on targets: every pair, in tiles.

Positive means helpful; the shape is always [train, target].
"""

from turnover.influence.localization import Localized, localize
from turnover.influence.neighbourhood import neighbourhood
from turnover.influence.pairs import influence
from turnover.influence.store import ScoreStore, StoredScores
from turnover.influence.summary import InfluenceSummary, summarize

__all__ = [
    "InfluenceSummary",
    "Localized",
    "ScoreStore",
    "StoredScores",
    "influence",
    "localize",
    "neighbourhood",
    "summarize",
]
