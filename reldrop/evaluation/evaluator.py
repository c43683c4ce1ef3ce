"""Evaluations in files, e.g. evaluation.json and evaluation.npz in a run folder."""

import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reldrop.evaluation.measurements import accuracy_curves
from reldrop.evaluation.suite import Options, Subject, Suite
from reldrop.metrics.registry import describe
from reldrop.runs.tracking import mirror
from reldrop.utils.io import atomic_write, finite, write_json_atomic, writing
from reldrop.utils.nested import numbers

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a network."""

    folder: Path  # of the files; that of the run, if it is one's
    figures: dict[str, Any]  # the JSON file: of which network, with which settings, and means over the samples
    samples: dict[str, Tensor]  # the npz file, GROUP/KEY -> (N, ...)

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The figures by their paths, e.g. curves/accuracy/most, without what describes them."""
        measured = {key: value for key, value in self.figures.items() if key not in ("seed", "settings")}
        return numbers(measured, "/")

    @classmethod
    def read(cls, folder: Path, name: str) -> "Evaluation | None":
        """Return what was written to a folder; None if nothing was, or it is damaged."""
        try:
            figures = json.loads((folder / f"{name}.json").read_text())
            with np.load(folder / f"{name}.npz") as arrays:
                samples = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return cls(folder, figures, samples)

    def write(self, name: str) -> None:
        """Write both files, each as a whole or not at all; the JSON file last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        with atomic_write(self.folder / f"{name}.npz") as file:
            np.savez_compressed(file, **{key: values.numpy() for key, values in self.samples.items()})
        write_json_atomic(self.folder / f"{name}.json", self.figures)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates one network after another in the same way."""

    suite: Suite
    options: Options
    settings: Mapping[str, Any]  # what the results depend on, in plain values for the files
    draw: Callable[[Evaluation, dict[str, Any]], dict[str, Path]] | None = None  # of `Result.pictured`, files by name
    force: bool = False  # whether to evaluate what has been evaluated with the same settings already

    def evaluate(self, subject: Subject, file: Path | None = None) -> Evaluation:
        """Evaluate a network and write what was measured, or read it, if that was done with the same settings before.

        Args:
            subject: the network.
            file: for the figures, FOLDER/NAME.json; the samples are written to NAME.npz. None for the run folder.

        Raises:
            ReldropError: the suite refuses the network or its data, or a file cannot be written.
        """
        folder, name = subject.folder, self.suite.name
        if file is not None:
            folder, name = file.parent, file.name.removesuffix(".json")
        label = {**subject.label, **self.suite.conditions(self.options), "settings": dict(self.settings)}
        evaluation = None if self.force else Evaluation.read(folder, name)
        if evaluation is not None and all(evaluation.figures.get(key) == value for key, value in label.items()):
            logger.info("%s: evaluated before (force=true evaluates it again)", subject.name)
            return evaluation
        logger.info("%s", subject.name)
        result = self.suite.evaluate(subject, self.options)
        evaluation, images = Evaluation(folder, finite({**label, **result.figures}), result.samples), {}
        with writing(f"{folder / name}.json", "set output to another place"):
            evaluation.write(name)
            if result.report:
                with atomic_write(folder / f"{name}.md") as text:
                    text.write(f"{result.report}\n".encode())
            if self.draw is not None and result.pictured:
                images = self.draw(evaluation, result.pictured)
        if subject.checkpoint is not None:
            run = subject.checkpoint.file.parent
            curved = "curves/most/correct" in evaluation.samples
            curves = {"accuracy_curves": accuracy_curves(evaluation.samples)} if curved else {}
            mirror(subject.checkpoint.cfg.get("tracking", {}), run, evaluation.numbers, {**images, **curves})
        print(result.report or describe(result.figures))
        logger.info("written to %s", folder / f"{name}.json")
        return evaluation
