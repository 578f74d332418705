"""Scores of single training examples: memorization, neighbourhood, calibration."""
