"""Text from end to end: a transformer of Hugging Face in a training loop of one's own.

From the repository's root, in any environment of Python 3.11 or newer, a minute on two cores:

pip install . transformers && python examples/text_classification.py
"""

from __future__ import annotations

import torch
from noisy_texts import masked_bert, noisy_texts, report
from torch.utils.data import DataLoader
from transformers import set_seed

from turnover import subnetwork


def main(epochs: int = 15) -> float:
    set_seed(0)
    torch.set_num_threads(1)  # a network this small gains little from a second core, and loses much on a busy one
    train, held_out = noisy_texts()
    model = masked_bert(len(train.vocabulary))
    batches = DataLoader(train, batch_size=64, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=epochs * len(batches))
    for epoch in range(epochs):
        model.train()
        for batch in batches:
            ids = batch.pop("ids")
            with subnetwork(model, ids):  # each text trains its own half of the units
                loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.3f}")
    return report(model, train, held_out)


if __name__ == "__main__":
    main()
