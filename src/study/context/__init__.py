"""What surrounds a stage and cannot change a byte of what it writes: settings, declarations, fingerprints, lifetime."""
