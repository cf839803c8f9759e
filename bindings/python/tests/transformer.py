"""A small transformer that learns to continue sequences of numbers, and the ways to train it on several ranks."""

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

WORDS = 32
LENGTH = 16


class Transformer(nn.Module):
    """Two layers of attention between embeddings and a choice of the next word."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, width)
        self.places = nn.Parameter(torch.zeros(LENGTH, width))
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=4 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.choice = nn.Linear(width, WORDS)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        return self.choice(self.layers(self.words(words) + self.places, mask=mask, is_causal=True))


def sequences(step: int, rank: int, count: int = 8) -> torch.Tensor:
    """Arithmetic sequences modulo the number of words: others for each step and rank, the same in every run."""
    generator = torch.Generator().manual_seed(1000 * step + rank)
    begin = torch.randint(WORDS, (count, 1), generator=generator)
    stride = torch.randint(1, 4, (count, 1), generator=generator)
    return (begin + stride * torch.arange(LENGTH + 1)) % WORDS


def distributed(way: str, group: torch.distributed.ProcessGroup, width: int = 64) -> nn.Module:
    """The model with its weights at the beginning, on the ranks of a group: "ddp" or "fsdp"."""
    torch.manual_seed(7)
    model = Transformer(width)
    if way == "ddp":
        return DistributedDataParallel(model, process_group=group)
    mesh = torch.distributed.DeviceMesh.from_group(group, "cpu")
    for layer in model.layers.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, words: torch.Tensor) -> float:
    """One step of training; this rank's loss before it."""
    optimizer.zero_grad()
    scores = model(words[:, :-1])
    loss = nn.functional.cross_entropy(scores.flatten(0, 1), words[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    return loss.item()


def train(way: str, group: torch.distributed.ProcessGroup, steps: int) -> list[float]:
    """Losses of this rank, step by step."""
    model = distributed(way, group)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rank = torch.distributed.get_rank(group)
    return [step(model, optimizer, sequences(number, rank)) for number in range(steps)]
