"""Text in the Hugging Face Trainer, around an unmodified transformer.

From the repository's root, in any environment of Python 3.11 or newer, a minute on two cores:

pip install . transformers accelerate && python examples/hf_trainer.py

The texts carry their ids as a column, which `training_step` takes out before the model sees the batch. The whole step,
backward pass included, is inside of `subnetwork`, as gradient checkpointing needs it (ask for `use_reentrant=False`).
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from noisy_texts import masked_bert, noisy_texts, report
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments, set_seed

from turnover import subnetwork


class TurnOverTrainer(Trainer):
    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        with subnetwork(model, inputs.pop("ids")):
            return super().training_step(model, inputs, *args, **kwargs)


def main(epochs: int = 15) -> float:
    set_seed(0)
    torch.set_num_threads(1)  # a network this small gains little from a second core, and loses much on a busy one
    train, held_out = noisy_texts()
    model = masked_bert(len(train.vocabulary))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=64, learning_rate=3e-3, warmup_steps=50,
            remove_unused_columns=False,  # keep the ids
            dataloader_pin_memory=torch.cuda.is_available(),
            report_to="none", save_strategy="no", logging_strategy="epoch",
        )  # fmt: skip
        TurnOverTrainer(model, arguments, train_dataset=train).train()
    return report(model, train, held_out)


if __name__ == "__main__":
    main()
