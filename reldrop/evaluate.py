"""Evaluate what runs have learned: python -m reldrop.evaluate run=FOLDER, or suite=zero_shot model=resnet50.tv2_in1k."""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import hydra
from omegaconf import DictConfig, OmegaConf

from reldrop.config import CONFIG_PATH, build, check, suggest
from reldrop.distributed.launch import one_device
from reldrop.runs.reader import UnreadableRun, find_runs
from reldrop.training.config import Accelerator, Precision
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import write_json_atomic, writing
from reldrop.utils.types import Count, Group, Text, WholeNumber

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class Settings:
    """What is evaluated and how; see conf/evaluate.yaml for what each means."""

    run: Text | Sequence[Text] | None
    config: Text | None
    checkpoint: Literal["last", "best"]
    data_dir: Text | None
    results_dir: Text
    output: Text | None
    limit: Count | None
    batch_size: Count
    precision: Precision
    accelerator: Accelerator
    figures: bool
    force: bool
    progress: bool
    model: Text | None
    weights: Text | None
    preprocessing: Literal["standard", "own"]
    workers: WholeNumber
    suite: Group
    attribution: Group

    def __post_init__(self) -> None:
        if bool(self.run) == (self.model is not None):
            raise ReldropError(
                "name what to evaluate: run=FOLDER of a run, or, with suite=zero_shot, model=NAME of a network of timm, "
                "not both"
            )
        if self.weights is not None and self.model is None:
            raise ReldropError(
                f"weights={self.weights} goes with model=NAME; a run has its own weights, see checkpoint"
            )


def evaluate(cfg: DictConfig) -> Any:
    """Evaluate what `cfg` names, write the results to files and return them.

    Raises:
        ReldropError: for anything the user can mend.
    """
    settings = _settings(cfg)
    suite = build(cfg, "suite")
    if suite.name == "zero_shot":
        return _zero_shot(suite, settings)
    if settings.model is not None:
        raise ReldropError("model=NAME goes with suite=zero_shot; this suite takes runs, with their data: run=FOLDER")
    from reldrop.evaluation.evaluator import Evaluator

    paths = find_runs(settings.run)
    evaluator = Evaluator(suite, cfg, settings)
    if len(paths) == 1:
        return [evaluator.evaluate(paths[0])]
    evaluations = []
    for path in paths:
        try:
            evaluations.append(evaluator.evaluate(path))
        except UnreadableRun as error:  # of a sweep that is still going on
            logger.warning("left out: %s", error)
    from reldrop.reporting.comparison import compare_runs

    contests = compare_runs(evaluations, Path(settings.output or Path(settings.results_dir, suite.name)))
    if settings.figures:
        from reldrop.plotting.comparison import draw_contest  # matplotlib takes a while

        for folder, contest in contests.items():
            draw_contest(contest, folder)
    return evaluations


def _zero_shot(suite: Any, settings: Settings) -> dict[str, Any]:
    from reldrop.evaluation import imagenet_models as subjects  # timm takes seconds

    if len(settings.run) > 1:
        raise ReldropError(f"suite=zero_shot takes one run at a time, not {', '.join(settings.run)}")
    root = settings.data_dir or os.environ.get("RELDROP_DATA", "data")
    sets, missing = suite.find(Path(root).expanduser(), settings.limit)
    if settings.model is not None:
        subject = subjects.of_timm_model(settings.model, settings.weights, settings.preprocessing)
        file = Path(settings.results_dir, suite.name, f"{settings.model}.json")
    else:
        (path,) = find_runs(settings.run)
        subject = subjects.of_run(path, settings.checkpoint, settings.config, settings.preprocessing)
        file = (path if path.is_dir() else path.parent) / f"{suite.name}.json"
    file = file if settings.output is None else Path(settings.output).expanduser()
    fabric = one_device(settings.accelerator, settings.precision)
    logger.info("%s: %s", subject.name, subject.preprocessing.described())
    predict = subjects.make_predict_fn(subject, fabric, settings.batch_size, settings.workers, settings.progress)
    figures = suite.measure(sets, predict)
    if missing := [*missing, *(name for name in sets if name not in figures)]:
        logger.info("not evaluated, for want of images in data_dir: %s", ", ".join(missing))
    results = {
        "suite": suite.name,
        "subject": subject.name,
        "preprocessing": subject.preprocessing.described(),
        "precision": settings.precision,
        "limit": settings.limit,
        **figures,
        "missing": missing,
    }
    with writing(str(file), "set output=FILE to another one"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(file, results)
    print(suite.table(figures))
    logger.info("written to %s", file)
    return results


def _settings(cfg: DictConfig) -> Settings:
    check(cfg, Settings, groups=("suite", "attribution"))
    content = OmegaConf.to_container(cfg, resolve=True)
    values = {field.name: content[field.name] for field in fields(Settings)}
    for key in ("config", "model", "weights", "output", "data_dir", "results_dir"):  # YAML reads 1 as a number
        if values[key] is not None:
            values[key] = str(values[key])
    if values["config"] is not None:
        values["config"] = Path(values["config"]).expanduser()
    run = values["run"]
    values["run"] = tuple(map(str, run if isinstance(run, list) else [run] if run is not None else []))
    return Settings(**values)


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="evaluate")
def main(cfg: DictConfig) -> None:
    try:
        evaluate(cfg)
    except ReldropError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what was finished is written")


def command() -> None:
    """Run `main`, and help with misspelt settings."""
    try:
        main()
    except SystemExit as stop:
        groups = ("suite", "attribution")
        hint = suggest(sys.argv[1:], CONFIG_PATH, "evaluate", groups) if stop.code == 1 else None
        sys.exit(hint or stop.code)


if __name__ == "__main__":
    command()
