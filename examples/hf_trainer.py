"""Turn-over dropout in the Hugging Face Trainer, around an unmodified vision transformer.

The examples carry their ids as a column, which `training_step` takes out before the model sees the batch.
The whole step, backward pass included, is inside of `subnetwork`, as gradient checkpointing needs it (ask for
`use_reentrant=False`).

pip install transformers accelerate
python examples/hf_trainer.py
"""

from __future__ import annotations

import tempfile
from typing import Any

from noisy_digits import Digits, noisy_digits, report
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, set_seed

from turnover import insert, subnetwork


class Examples(Dataset[dict[str, Tensor]]):
    def __init__(self, digits: Digits) -> None:
        self.digits = digits

    def __len__(self) -> int:
        return len(self.digits.ids)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"pixel_values": self.digits.x[row], "labels": self.digits.y[row], "ids": self.digits.ids[row]}


class TurnOverTrainer(Trainer):
    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        with subnetwork(model, inputs.pop("ids")):
            return super().training_step(model, inputs, *args, **kwargs)


class Logits(nn.Module):
    """The network as `turnover` takes it: images in, logits out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(pixel_values=x).logits


def main(epochs: int = 40) -> float:
    set_seed(0)
    train, _ = noisy_digits()
    config = ViTConfig(
        image_size=8, patch_size=2, num_channels=1, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, num_labels=10,
    )  # fmt: skip
    model = insert(ViTForImageClassification(config), after="head", width=1024)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=64, learning_rate=2e-3, use_cpu=True,
            remove_unused_columns=False,  # keep the ids
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        TurnOverTrainer(model, arguments, train_dataset=Examples(train)).train()
    return report(Logits(model))


if __name__ == "__main__":
    main()
