"""What only the stage `train` uses."""
