"""How suspicious each label is, from what was found without it: a posterior, a ranking, a false-discovery estimate.

Evidence are class probabilities of every example: the network's, averaged over its training, its neighbours' votes, and
of embeddings those of a linear classifier that was fitted to all others.
What is learned from given labels foretells given labels: of a class that is often given for another, the evidence says
too little. What it says of each class's surest examples (Patrini et al. 2017, arXiv 1609.03683) is taken out of it
(Richardson 1972, *J. Opt. Soc. Am.* 62, 55; Lucy 1974, *Astron. J.* 79, 745). A label is then wrong with the
probability that Bayes' rule gives from a matrix of confusions, ``P(given label | true class)``, which expectation
maximization finds in the data (Dawid & Skene 1979, *Applied Statistics* 28, 20), and a temperature, of greatest
likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Chosen on other draws of images and wrong labels than those of docs/audit.csv: see docs/audit.md.
TEMPERATURES = (0.85, 1.2, 1.6, 2.0, 2.7)
ROUNDS = 30
SUREST = 0.1  # of the examples that the evidence takes for a class
SURE_EXAMPLES = 10  # fewer tell nothing of a class
STEPS = 100  # by which what was learned of confusions is taken out of the evidence
CONFIDENT = 0.9  # evidence for one class from which an example tells of confusions: what is ambiguous is not confused
LEAST = 1e-3  # a probability below it says no more
SURE = 5.0  # examples of each class that are taken to be right, beside those there are
# In the ranking the posterior counts as much as the evidence where this share of wrong labels is one-sided, beyond
# likeness; with so large a power of its odds it counts more or less.
ONE_SIDED, POWER = 0.6, 6
_LARGEST = 0.98  # share, at most
_SAMPLE = 50_000  # examples that temperature and confusions are found on, at most


@dataclass(frozen=True, eq=False)
class Suspicion:
    """What is found about the label of every example, each [n] but for `confusions`.

    Attributes:
        score: log odds, the larger the more suspicious; ranks the examples.
        wrong: probability that the label is wrong.
        false_discovery: among this example and all that rank before it, the expected share of right labels.
        suggested: the likeliest class other than the given one.
        probability: of the suggested class.
        confusions: [true class, given class], a row sums to 1.
    """

    score: Tensor
    wrong: Tensor
    false_discovery: Tensor
    suggested: Tensor
    probability: Tensor
    confusions: Tensor

    @property
    def expected_wrong(self) -> float:
        """How many labels are wrong, an estimate."""
        return float(self.wrong.sum())


def together(*witnesses: Tensor) -> Tensor:
    """The evidence of several witnesses, probabilities [n, classes] each: their geometric mean, normalized."""
    return torch.stack([(witness + LEAST).log() for witness in witnesses]).mean(0).softmax(1)


def suspect(evidence: Tensor, labels: Tensor) -> Suspicion:
    """Judge labels by evidence in which they had no or little part.

    Args:
        evidence: probabilities, float32 [n, classes].
        labels: the given ones, int64 [n].
    """
    step = -(-len(labels) // _SAMPLE)
    some, of_some, rows = evidence[::step], labels[::step], torch.arange(len(labels))
    of_true = _without(evidence, _learned(some))
    found = _fitted(of_true[::step], of_some)
    posterior = _posterior(of_true, labels, found)
    wrong = 1.0 - posterior[rows, labels]
    # What makes the probabilities right ranks difficult examples too high: ranks are by the evidence as it is. Alone it
    # ranks best where any class is given for any other, or what looks like it; its posterior where each class has one
    # that is given for it, and that does not look like it.
    as_it_is = _fitted(some, of_some)
    seen = _sharper(evidence, as_it_is.temperature)[rows, labels]
    share = _one_sided(found.confusions, posterior.sum(0), of_true)
    weight = (share / (1.0 - share) * (1.0 - ONE_SIDED) / ONE_SIDED) ** POWER
    score = _log_odds(1.0 - seen) + weight * _log_odds(1.0 - _posterior(evidence, labels, as_it_is)[rows, labels])
    order = score.argsort(descending=True, stable=True)
    running = (1.0 - wrong[order]).double().cumsum(0) / torch.arange(1, len(order) + 1)
    # The largest list that holds the example counts: a longer one may be purer.
    false_discovery = torch.empty_like(running)
    false_discovery[order] = running.flip(0).cummin(0).values.flip(0)
    others = posterior.clone()
    others[rows, labels] = -1.0
    probability, suggested = others.max(1)
    return Suspicion(score, wrong, false_discovery.float(), suggested, probability, found.confusions)


class _Fitted(NamedTuple):
    """What makes given labels likeliest."""

    temperature: float
    confusions: Tensor


def _fitted(evidence: Tensor, labels: Tensor) -> _Fitted:
    best: tuple[float, _Fitted] | None = None
    for temperature in TEMPERATURES:
        confusions, likelihood = _confusions(_sharper(evidence, temperature), labels)
        if best is None or likelihood > best[0]:
            best = likelihood, _Fitted(temperature, confusions)
    assert best is not None
    return best[1]


def _posterior(evidence: Tensor, labels: Tensor, fitted: _Fitted) -> Tensor:
    found = _sharper(evidence, fitted.temperature) * fitted.confusions[:, labels].T
    return found / found.sum(1, keepdim=True)


def _confusions(evidence: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """The matrix of greatest likelihood, and the mean log likelihood of the labels."""
    classes = evidence.shape[1]
    confusions = torch.full((classes, classes), 0.1 / max(1, classes - 1))
    confusions.fill_diagonal_(0.9)
    sure = SURE * torch.eye(classes) + 0.5 / classes
    likelihood = evidence * confusions[:, labels].T
    tells = (evidence.amax(1, keepdim=True) >= CONFIDENT).float()
    for _ in range(ROUNDS):
        truth = tells * likelihood / likelihood.sum(1, keepdim=True)
        counts = torch.zeros(classes, classes).index_add_(0, labels, truth).T + sure
        confusions = counts / counts.sum(1, keepdim=True)
        likelihood = evidence * confusions[:, labels].T
    return confusions, float(likelihood.sum(1).log().mean())


def _learned(evidence: Tensor) -> Tensor:
    """What the evidence says of the surest examples of each class, [class, class]: its own confusions."""
    found = torch.eye(evidence.shape[1])
    chance, taken_for = evidence.max(1)
    for label in range(len(found)):
        rows = (taken_for == label).nonzero().squeeze(1)
        if len(rows) >= SURE_EXAMPLES:
            surest = rows[chance[rows].topk(max(SURE_EXAMPLES, round(SUREST * len(rows)))).indices]
            found[label] = evidence[surest].mean(0)
    return found


def _without(evidence: Tensor, learned: Tensor) -> Tensor:
    """Evidence of true classes, by Richardson and Lucy's iteration."""
    seen = evidence + 1e-4
    found = seen
    for _ in range(STEPS):
        found = found * ((seen / (found @ learned)) @ learned.T)
        found = found / found.sum(1, keepdim=True)
    return found


def _one_sided(confusions: Tensor, counts: Tensor, evidence: Tensor) -> float:
    """Of the wrong labels the share that are their class's most frequent wrong one, less what likeness explains.

    A class that takes most of what the evidence leaves open of another one is likely given for it by mistake.

    Args:
        confusions: [true class, given class].
        counts: examples of each class.
        evidence: of true classes, [n, classes].
    """
    others = 1.0 - torch.eye(len(confusions))
    wrong = counts.unsqueeze(1) * confusions * others
    alike = (evidence.T @ evidence) * others
    alike /= alike.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return min(float((wrong * (1.0 - alike)).amax(1).sum() / wrong.sum()), _LARGEST)


def _sharper(evidence: Tensor, temperature: float) -> Tensor:
    raised = (evidence + 1e-4) ** temperature
    return raised / raised.sum(1, keepdim=True)


def _log_odds(probability: Tensor) -> Tensor:
    return torch.logit(probability.double(), eps=1e-7)
