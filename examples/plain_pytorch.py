"""Turn-over dropout in a training loop of one's own: one call before it, one `with` inside of it.

python examples/plain_pytorch.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from noisy_digits import noisy_digits, report
from torch import nn

from turnover import insert, subnetwork


def main(epochs: int = 40) -> float:
    torch.manual_seed(0)
    train, _ = noisy_digits()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    insert(network, after="head", width=1024)  # mask a wide layer before the classes
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(train.ids)).split(64):
            with subnetwork(network, train.ids[rows]):  # each example trains its own units only
                loss = F.cross_entropy(network(train.x[rows]), train.y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return report(network)


if __name__ == "__main__":
    main()
