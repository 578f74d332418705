"""The data: where images come from, and the scenarios drawn from them."""
