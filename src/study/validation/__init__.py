"""Stage `validate`: every estimate of memorization, influence and wrong labels, judged by retraining."""
