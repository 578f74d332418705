"""How artefacts are written and read: never half-written, always the same bytes."""
