"""What a network says about examples, read once: ids, labels, losses, margins and features, in memory or on disk."""
