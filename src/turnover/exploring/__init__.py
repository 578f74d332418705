"""A page to look at: predictions and the training examples behind them, and what became of these."""
