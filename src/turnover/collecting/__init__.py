"""Anybody's labelled images, as they lie on a disk: class folders or a table, and the pixels that everybody sees."""
