"""What the Makefile calls beside DVC: before, after, and around the pipeline."""
