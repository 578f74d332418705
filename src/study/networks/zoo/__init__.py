"""The project's own classifiers. They know nothing of turn-over dropout: trained without it, they are the judges."""
