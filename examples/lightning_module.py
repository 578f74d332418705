"""Turn-over dropout in Lightning: enter `subnetwork` in `training_step`; batches carry the examples' ids.

From the repository's root, in any environment of Python 3.11 or newer, half a minute on two cores:

pip install . scikit-learn lightning && python examples/lightning_module.py
"""

from __future__ import annotations

import lightning
import torch
import torch.nn.functional as F
from noisy_digits import noisy_digits, report
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from turnover import insert, subnetwork


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        self.network = insert(layers, after="head", width=1024)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], step: int) -> Tensor:
        x, y, ids = batch
        with subnetwork(self.network, ids):
            return F.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(epochs: int = 40) -> float:
    lightning.seed_everything(0, verbose=False)
    train, _ = noisy_digits()
    batches = DataLoader(TensorDataset(train.x, train.y, train.ids), batch_size=64, shuffle=True)
    model = Classifier()
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, batches)
    return report(model)


if __name__ == "__main__":
    main()
