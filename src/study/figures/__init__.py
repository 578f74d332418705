"""The figures of the study; every one is drawn from a table that stands beside it."""
