"""What the text examples train on: descriptions of functions, every seventh or so under a wrong subject.

They are in the packages that are installed with this library: the first words of what scipy, pandas and torch say of
their own functions, 1,300 texts on five subjects. So nothing is downloaded, and which label is right is known.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification

from turnover import influence, insert, memorization, read

SUBJECTS = {
    "statistics": ["scipy.stats"],
    "signals": ["scipy.signal"],
    "special functions": ["scipy.special"],
    "tables": ["pandas.DataFrame", "pandas"],
    "neural networks": ["torch.nn", "torch.nn.functional"],
}
NAMES = list(SUBJECTS)
HELD_OUT, WRONG = 200, 0.15
LONGEST = 40  # words
PADDING, START, UNKNOWN = 0, 1, 2


class Texts(Dataset[dict[str, Tensor]]):
    """Texts as the network takes them, with their given labels; ids are the places.

    Args:
        texts: what is read.
        given, true: labels [n].
        vocabulary: the number of each known word.
    """

    def __init__(self, texts: Sequence[str], given: Tensor, true: Tensor, vocabulary: dict[str, int]) -> None:
        self.texts, self.given, self.true, self.vocabulary = texts, given, true, vocabulary

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        numbers = [START, *(self.vocabulary.get(word, UNKNOWN) for word in words(self.texts[place]))][:LONGEST]
        tokens = torch.tensor(numbers + [PADDING] * (LONGEST - len(numbers)))
        return {
            "input_ids": tokens,
            "attention_mask": (tokens != PADDING).long(),
            "labels": self.given[place],
            "ids": torch.tensor(place),
        }


def words(text: str) -> list[str]:
    return re.findall("[a-z]+", text.lower())


def noisy_texts() -> tuple[Texts, Texts]:
    """Training texts, of which `WRONG` got another subject than their own, and held-out ones with the right labels."""
    found = [
        (text, label) for label, homes in enumerate(SUBJECTS.values()) for text in sorted(set(descriptions(homes)))
    ]
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(found), generator=generator).tolist()
    texts, true = [found[row][0] for row in order], torch.tensor([found[row][1] for row in order])
    other = (true + torch.randint(1, len(NAMES), true.shape, generator=generator)) % len(NAMES)
    given = torch.where(torch.rand(true.shape, generator=generator) < WRONG, other, true)
    counts = Counter(word for text in texts[HELD_OUT:] for word in words(text))
    common = sorted(word for word, count in counts.items() if count > 1)
    vocabulary = {word: number for number, word in enumerate(common, UNKNOWN + 1)}
    return (
        Texts(texts[HELD_OUT:], given[HELD_OUT:], true[HELD_OUT:], vocabulary),
        Texts(texts[:HELD_OUT], true[:HELD_OUT], true[:HELD_OUT], vocabulary),
    )


def descriptions(homes: Sequence[str]) -> Iterator[str]:
    """The first words of what is said of each function and class: up to the first list, example or signature."""
    for home in homes:
        module, _, name = home.rpartition(".")
        place = getattr(importlib.import_module(module), name) if module else importlib.import_module(home)
        for public in getattr(place, "__all__", dir(place)):
            thing = getattr(place, public, None)
            if public.startswith("_") or not callable(thing):
                continue
            prose = []
            for paragraph in map(str.strip, (inspect.getdoc(thing) or "").split("\n\n")):
                if re.search(r"-----|>>>|^(Args|Examples|Parameters|References|See Also)\b", paragraph):
                    break
                if not re.search(r"^\.\. |^\w+\(|::", paragraph):
                    prose += paragraph.split()
            if len(prose) >= 6:
                yield " ".join(prose[:LONGEST])


def masked_bert(vocabulary: int) -> BertForSequenceClassification:
    """A small BERT with random weights, a hidden layer of 1,024 masked units in front of its classes."""
    config = BertConfig(
        vocab_size=vocabulary + UNKNOWN + 1, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=LONGEST, num_labels=len(NAMES),
        hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3,
    )  # fmt: skip
    return insert(BertForSequenceClassification(config), after="head", width=1024)


def report(model: nn.Module, train: Texts, held_out: Texts) -> float:
    """Print the most suspicious texts, and what helped and harmed held-out ones.

    Returns the share of wrong labels among as many at the top of the ranking.
    """
    readings = read(model, train)  # one pass over the training texts, for both questions
    # By the loss of the sub-network that never saw the text: a wrong label surprises it.
    ranked = memorization(model, readings).sort_values("loss_flipped", ascending=False)
    wrong = (train.given != train.true).numpy()
    first = float(wrong[ranked["id"][: wrong.sum()]].mean())
    print(f"\nThe most suspicious of {len(train)} texts ({wrong.mean():.0%} are wrong, at the top {first:.0%}):")
    print("  loss unseen  memorized  label given        text")
    columns = (ranked[name].tolist()[:12] for name in ("id", "loss_flipped", "probability"))
    for place, loss, probability in zip(*columns, strict=True):
        print(f"  {loss:11.2f}  {probability:9.2f}  {shown(train, place)}")

    effect = influence(model, readings, held_out)
    strength = effect.abs().amax(0).argsort().tolist()  # held-out texts by how much a single text tells
    for target in strength[len(strength) // 2 :][:3]:
        print(f"\nHeld out:         {shown(held_out, target)}")
        order = effect[:, target].argsort(descending=True).tolist()
        for what, rows in (("helped", order[:3]), ("harmed", order[:-4:-1])):
            for row in rows:
                print(f"  {what} {effect[row, target]:+7.2f}  {shown(train, row)}")
    return first


def shown(data: Texts, place: int) -> str:
    wrong = "" if data.given[place] == data.true[place] else "  <- wrong"
    return f"{NAMES[data.given[place]]:17}  {data.texts[place][:80]}{wrong}"
