"""Instance masks, the masked layer, where it may go in a network, and what would get past it."""
