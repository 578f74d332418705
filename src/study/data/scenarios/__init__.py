"""Scenarios: the study's examples, some of them with random labels."""
