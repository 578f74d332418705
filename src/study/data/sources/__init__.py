"""Data sets, fetched from the first source that answers and verified by checksum, or the user's own."""
