"""What turn-over dropout is compared with: public estimators on ordinary networks."""
