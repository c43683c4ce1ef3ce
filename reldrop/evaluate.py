"""Evaluate what runs have learned: python -m reldrop.evaluate run=FOLDER, or suite=zero_shot model=resnet50.tv2_in1k."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import DictConfig, OmegaConf

from reldrop.command import run_command
from reldrop.config import build, check, machine
from reldrop.utils.errors import ReldropError
from reldrop.utils.types import Count, Group, Text

if TYPE_CHECKING:
    from reldrop.evaluation.evaluator import Evaluation

GROUPS = ("suite", "attribution", "machine")
PATHS = ("config", "data_dir", "results_dir", "output", "weights")


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
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    figures: bool
    force: bool
    model: Text | None
    weights: Text | None
    preprocessing: Literal["standard", "own"]
    suite: Group
    attribution: Group
    machine: Group

    def __post_init__(self) -> None:
        if bool(self.run) == (self.model is not None):
            raise ReldropError(
                "name what to evaluate: run=FOLDER, or model=NAME of timm with suite=zero_shot, not both"
            )
        if self.weights is not None and self.model is None:
            raise ReldropError(f"weights={self.weights} goes with model=NAME; a run has its own, see checkpoint")


def evaluate(cfg: DictConfig) -> "list[Evaluation]":
    """Evaluate what `cfg` names, and compare several runs; write the results to files and return them.

    Raises:
        ReldropError: for anything the user can correct.
    """
    check(cfg, Settings, groups=GROUPS)
    content = OmegaConf.to_container(cfg, resolve=True)
    paths = {key: Path(str(content[key])).expanduser() for key in PATHS if content[key] is not None}
    settings = Settings(**content)
    from reldrop.distributed.launch import one_device  # torch takes seconds
    from reldrop.evaluation.evaluator import Evaluator
    from reldrop.evaluation.suite import Options, Subject, run_subjects
    from reldrop.runs.reader import find_runs

    suite, place = build(cfg, "suite"), machine(cfg)
    device = one_device(place.accelerator, settings.precision)
    how = (settings.limit, settings.batch_size, settings.preprocessing, place.processes, place.progress)
    options = Options(device, build(cfg, "attribution"), paths.get("data_dir"), *how)
    for group in GROUPS:  # their names say which they are, so that code can move
        content[group].pop("_target_")
    described = {key: content[key] for key in suite.settings}
    evaluator = Evaluator(suite, options, described, _draw if settings.figures else None, settings.force)
    output, default = paths.get("output"), paths["results_dir"] / suite.name
    if settings.model is not None:
        subject = Subject.from_timm(str(settings.model), paths.get("weights"), default)
        return [evaluator.evaluate(subject, output or default / f"{settings.model}.json")]
    runs = [settings.run] if isinstance(settings.run, str | float) else settings.run
    found, file = find_runs([str(run) for run in runs]), None if suite.compared else output
    if file is not None and len(found) > 1:
        raise ReldropError(f"output={output} is the file of one run, not of {len(found)}; leave it out")
    subjects = run_subjects(found, settings.checkpoint, paths.get("config"))
    evaluations = [evaluator.evaluate(subject, file) for subject in subjects]
    if len(evaluations) > 1 and suite.compared:
        from reldrop.reporting.comparison import compare_runs

        for folder, contest in compare_runs(evaluations, output or default).items():
            if settings.figures:
                from reldrop.plotting.curves import draw_contest  # matplotlib takes a while

                draw_contest(contest, folder)
    return evaluations


def _draw(evaluation: "Evaluation", pictured: Mapping[str, Any]) -> dict[str, Path]:
    if "guidance" in evaluation.figures:
        from reldrop.plotting.guidance import draw_guidance

        return draw_guidance(evaluation)
    from reldrop.plotting.curves import draw_evaluation
    from reldrop.plotting.examples import checkpoint_figure

    return draw_evaluation(evaluation, examples=checkpoint_figure(**pictured))


def command() -> None:
    run_command(evaluate, "evaluate", "what was finished is written")


if __name__ == "__main__":
    command()
