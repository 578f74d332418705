"""What turn-over dropout is compared with.

`dynamics`: scores that cost nothing beyond a training. `with_captum`, `with_dattri`, `with_cleanlab`: adapters to
public estimators, in the optional extra ``compare``; one signature for all, see `inputs`. `knn_shapley`: a closed form.

Signs: a higher score is more memorized, or more suspect; influence is positive where the training example helps,
and always [train, target].
"""
