"""The networks of the study: built from settings, saved, loaded again."""
