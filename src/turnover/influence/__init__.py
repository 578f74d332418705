"""Influence of training examples on targets: every pair, in tiles.

Positive means helpful; the shape is always [train, target].
"""

from turnover.influence.pairs import influence
from turnover.influence.store import ScoreStore, StoredScores
from turnover.influence.summary import InfluenceSummary, summarize

__all__ = ["InfluenceSummary", "ScoreStore", "StoredScores", "influence", "summarize"]
