"""The network that train.py trains and app.py serves."""

import torch
from torch import nn


def digit_network() -> nn.Sequential:
    """Takes (n, 1, 8, 8) of 0 to 1, gives (n, 10) logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 3 * 3, 10),
    )


def to_input(images: list[list[list[float]]]) -> torch.Tensor:
    """Images of 8 x 8 pixels, 0 to 16, as (n, 1, 8, 8) of 0 to 1."""
    return torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
