"""Partial pooling of influence within classes: what one mask cannot tell, hundreds of the same class can.

One example's influence on a target is its own effect in the noise of one mask. The mean over all examples of a class
has next to none of that noise, and is the best guess for an example about which nothing more is known. In a normal
model with known variances the posterior mean weighs a measurement and the mean of its group by the ratio of noise
to spread between the members (Efron & Morris 1975, *J. Am. Stat. Assoc.* 70, 311; Gelman & Hill 2007, chapter 12).
"""

from __future__ import annotations

import torch
from torch import Tensor

from turnover.reading.checks import check_labels

# Agreement with retraining is flat between 1 and 5; see docs/method.md.
STRENGTH = 2.0


def pool_within_classes(localized: Tensor, factor: Tensor, y_train: Tensor, strength: float = STRENGTH) -> Tensor:
    """Localized influence, each score drawn towards what its class does to the target.

    With D the raw scores and K the factor, ``K * (D + strength * mean of D over the class, weighted by K)``: up to a
    constant scale, ``strength`` is the variance of the noise over that of the true effects within a class.

    Args:
        localized: K * D, [train, target], as `turnover.localize` gives it.
        factor: K, [train, target]: `turnover.localize` of a matrix of ones.
        y_train: given labels of the training examples [train], integers.
        strength: not negative; 0 changes nothing.

    Returns:
        float32 [train, target].

    Raises:
        ValueError: shapes do not fit, or `strength` is negative.
        TypeError: labels are not an integer tensor.
    """
    y_train = check_labels(y_train, name="y_train")
    if localized.shape != factor.shape or localized.dim() != 2 or len(y_train) != len(localized):
        raise ValueError(
            f"localized has shape {tuple(localized.shape)}, factor {tuple(factor.shape)}, and there are {len(y_train)} "
            "labels: pass two matrices [train, target], and one label for each row"
        )
    if not 0.0 <= strength < float("inf"):
        raise ValueError(f"strength={strength}: it must be a number that is not negative")
    if not len(y_train):
        return localized.float()
    classes, group = torch.unique(y_train.to(localized.device), return_inverse=True)
    sums, weights = (
        torch.zeros(len(classes), localized.shape[1], device=localized.device).index_add_(0, group, values.float())
        for values in (localized, factor)
    )
    # Where no example of a class is near a target, there is nothing to pool, and the factor is 0 anyway.
    mean = sums / weights.clamp(min=torch.finfo(torch.float32).tiny)
    return localized + strength * factor * mean[group]
