"""From a reader to a data set.

A reader says what a data set has and where it is stored: a short function that returns a `Listing`. A decorator
(`image_dataset`, `point_dataset`) makes of it the function that a configuration names. That one also takes the settings
that all data sets of the kind share, and applies them: what is chosen, decoded and kept in memory is the same behind any
reader.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor

from reldrop.data.base import Data, Split
from reldrop.data.paths import Files
from reldrop.data.splits import stratified_split, stratified_subset
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import checked

AnyData = TypeVar("AnyData", bound=Data)


@dataclass(frozen=True)
class Listing:
    """What a reader finds. Nothing is decoded, and nothing chosen.

    Attributes:
        name: of the data set, unless its configuration gives another one.
        classes: names of the classes, in the order of the labels.
        train, test: items, as `Files` or in memory.
        source: where they are from, for reports: without paths of this machine.
    """

    name: str
    classes: Sequence[str]
    train: Files | Split
    test: Files | Split
    source: str

    def check(self) -> None:
        """Refuse items without a label, and labels of no class.

        Raises:
            ReldropError: naming the data set and the promise that it breaks.
        """
        for split, items in {"training": self.train, "test": self.test}.items():
            stored = items.paths if isinstance(items, Files) else items.stored
            if len(stored) != len(items.labels) or not len(stored):
                counts = f"{len(stored)} {split} items and {len(items.labels)} labels"
                raise ReldropError(
                    f"dataset {self.name} has {counts}; it must have at least one item, and a label for each"
                )
            low, high = items.labels.min().item(), items.labels.max().item()
            if low < 0 or high >= len(self.classes):
                wanted = f"from 0 to {len(self.classes) - 1}, for its {len(self.classes)} classes"
                raise ReldropError(
                    f"dataset {self.name} has {split} labels from {low} to {high}; they must be {wanted}"
                )

    def items(self, split: str) -> Any:
        """Return the items that those of a split are chosen from: for validation, those for training."""
        return self.test if split == "test" else self.train

    def choose(self, subset: int | None, test_subset: int | None, validation: float, unit: str) -> dict[str, Tensor]:
        """Choose what a data set is made of: validation items are held out first, the subset is taken of the others.

        Args:
            subset: number of training items, evenly over the classes; None for all. `test_subset` likewise.
            validation: share of the training items held out, in [0, 1); 0 for no validation split.
            unit: the word for one of them in messages.

        Returns:
            Ascending indices by "train", "test" and, if there is one, "validation": of `items`.

        Raises:
            ReldropError: a setting is out of range.
        """
        train = self.train.labels
        chosen = {"test": stratified_subset(self.test.labels, test_subset, "test_subset", unit)}
        kept = torch.arange(len(train))
        if validation:
            count = round(validation * len(train))
            if not 1 <= count < len(train):
                raise ReldropError(
                    f"validation={validation} of {len(train)} training {unit}s leaves no {unit} on one side; "
                    "choose a share that leaves some on both"
                )
            kept, chosen["validation"] = stratified_split(train, count, "validation")
        chosen["train"] = kept[stratified_subset(train[kept], subset, "subset", unit)]
        return chosen


def dataset(load: Callable[..., AnyData]) -> Callable[[Callable[..., Listing]], Callable[..., AnyData]]:
    """Return a decorator of readers.

    Args:
        load: makes a data set of a `Listing`, its first argument. Its other parameters are the settings that all readers
            share. A parameter that the reader has as well, with its default, is passed to both.
    """

    def decorate(reader: Callable[..., Listing]) -> Callable[..., AnyData]:
        own = _parameters(reader)
        common = dict(list(_parameters(load).items())[1:])
        merged = own | {key: each for key, each in common.items() if key not in own}
        signature = inspect.Signature(list(merged.values()), return_annotation=get_type_hints(load)["return"])

        @wraps(reader)
        def loader(**settings: Any) -> AnyData:
            given = signature.bind(**settings)
            given.apply_defaults()
            values = given.arguments
            listing = reader(**{key: values[key] for key in own})
            if not isinstance(listing, Listing):
                kind = type(listing).__name__
                raise ReldropError(
                    f"dataset {reader.__name__} returns a {kind}; it must return a listing of what it has"
                )
            listing.check()
            return load(listing, **{key: values[key] for key in common})

        del loader.__wrapped__
        loader.__signature__ = signature
        loader.__annotations__ = {key: each.annotation for key, each in merged.items()}
        return checked(loader)

    return decorate


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function with their annotations resolved, all by keyword."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError:  # imported for type checkers only
        hints = {}
    return {
        name: each.replace(kind=each.KEYWORD_ONLY, annotation=hints.get(name, Any))
        for name, each in inspect.signature(function).parameters.items()
    }
