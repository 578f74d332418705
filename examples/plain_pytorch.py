"""Turn-over dropout in a training loop of one's own: one call before it, one `with` inside of it.

From the repository's root, in any environment of Python 3.11 or newer, half a minute on two cores:

pip install . scikit-learn && python examples/plain_pytorch.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from noisy_digits import noisy_digits, report
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from turnover import insert, subnetwork, with_ids


def main(epochs: int = 40) -> float:
    torch.manual_seed(0)
    train, _ = noisy_digits()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    insert(network, after="head", width=1024)  # mask a wide layer before the classes
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    batches = with_ids(DataLoader(TensorDataset(train.x, train.y), batch_size=64, shuffle=True))
    for _ in range(epochs):
        for (x, y), ids in batches:
            with subnetwork(network, ids):  # each example trains its own units only
                loss = F.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return report(network)


if __name__ == "__main__":
    main()
