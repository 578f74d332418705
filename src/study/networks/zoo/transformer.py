"""A small transformer over the rows of an image: a third kind of network for the judges, with nothing convolutional."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HEADS = 4
_MULTIPLE = 2  # width of the feed-forward layers, in widths of a token


class Transformer(nn.Module):
    """Every row of an image is a token; encoder layers without dropout, their mean, one hidden layer, the classes.

    Args:
        shape: channels, height and width of an image: so many rows are so many tokens.
        classes: number of classes.
        width: numbers a token, a multiple of 4: there are four attention heads.
        layers: of the encoder, the norm before each part (Xiong et al. 2020, arXiv 2002.04745).
        hidden: units of the layer before the classes, the ones that ``after="head"`` masks.

    Raises:
        ValueError: the width is no multiple of 4.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, width: int = 64, layers: int = 2, hidden: int = 512
    ) -> None:
        super().__init__()
        if width % _HEADS:
            raise ValueError(f"model.width={width} is not allowed for 'transformer': make it a multiple of {_HEADS}")
        self.tokens = nn.Linear(shape[0] * shape[2], width)
        self.places = nn.Parameter(0.02 * torch.randn(shape[1], width))
        layer = nn.TransformerEncoderLayer(
            width, _HEADS, _MULTIPLE * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.hidden = nn.Linear(width, hidden)
        self.activation = nn.ReLU()
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(2)  # [batch, rows, channels * width of the image]
        encoded = self.encoder(self.tokens(rows) + self.places).mean(1)
        return self.head(self.activation(self.hidden(encoded)))  # type: ignore[no-any-return]
