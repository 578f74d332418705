"""MLflow: every training, live while it trains; `study.commands.backfill` restores what is missing.

`live` is what a stage sees, `content` what a run holds, `items` all that belongs into MLflow, `store` the runs there,
`place` where they are kept. Nothing in here can change an out: the pipeline's results never depend on MLflow.
"""

from study.tracking.live import Tracker, track

__all__ = ["Tracker", "track"]
