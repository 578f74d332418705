"""The claims tested: comparisons, verdicts, and the tables the figures of the claims are drawn from."""
