"""What scripts/benchmark.py times of small images in memory: the batches of reldrop.data, and those of a usual DataLoader."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from benchmark_arms import PADDING, STATISTICS, go_through, in_memory, train_step
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from reldrop.augmentation import NoAugmentation, RandomErasing
from reldrop.backbones import timm_model
from reldrop.data.images.dataset import ImageData

OURS, USUAL = "batches on the device", "DataLoader, image by image"
TRAINING = "training, {}"


class UsualImages(Dataset):
    """CIFAR as it is commonly read and augmented, each image by itself through PIL; so does the release of the paper."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images = images.permute(0, 2, 3, 1).numpy()
        self.targets = targets.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[-1], PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(*STATISTICS),
                transforms.RandomErasing(0.5),
            ]
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


def input_arms(
    options: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """Return an epoch of crops, flips and random erasing made in both ways, alone and trained on, and its images."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (options.samples, 3, options.size, options.size), generator=draws, dtype=torch.uint8)
    targets = torch.randint(10, (options.samples,), generator=draws)
    loader = DataLoader(
        UsualImages(images, targets),
        options.batch_size,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=device.type == "cuda",
    )
    data = in_memory(images, targets).to(device)
    torch.manual_seed(0)
    model = timm_model(options.backbone, num_classes=10, size=options.size).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    step = partial(train_step, model, optimizer, NoAugmentation(), None)
    ways = {OURS: partial(_ours, data, options.batch_size), USUAL: partial(_usual, loader, device)}
    arms = {name: partial(go_through, epoch) for name, epoch in ways.items()}
    arms |= {TRAINING.format(name): partial(go_through, epoch, step) for name, epoch in ways.items()}
    return arms, dict.fromkeys(arms, options.samples)


def _ours(data: ImageData, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    erase, draws = RandomErasing(probability=0.5), torch.Generator().manual_seed(0)
    for inputs, targets, *_ in data.train_batches(0, batch_size=batch_size, seed=0):
        yield erase(inputs, targets, None, draws)


def _usual(loader: DataLoader, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for inputs, targets in loader:
        yield inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
