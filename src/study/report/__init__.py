"""The report: one self-contained page, and the same in Markdown."""
