"""The audit of labelled data: wrong labels, memorized, influential and duplicate examples, from one training."""
