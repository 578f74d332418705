"""What a network says about examples: its exposed, flipped and full outputs, and its features."""
