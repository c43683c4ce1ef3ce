"""Draw runs: python -m reldrop.figures run=FOLDER [kind=examples|training|ablation|evaluation|...] [output=FILE]."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from reldrop.command import run_command
from reldrop.config import CONFIG_PATH, build, check
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import writing
from reldrop.utils.types import Count, Group, Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reldrop.reporting.records import Record

SUFFIXES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Settings:
    """What is drawn; see conf/figures.yaml for what each means."""

    run: Text | Sequence[Text]
    kind: Literal[
        "examples",
        "training",
        "ablation",
        "evaluation",
        "occlusion_accuracy",
        "occlusion_probability",
        "blocks",
        "regions",
        "reliability",
        "metrics",
    ]
    checkpoint: Literal["last", "best"]
    data_dir: Text | None
    samples: Count
    metric: Text | Sequence[Text] | None
    x: Text | None
    output: Text | None
    machine: Group


def draw(cfg: DictConfig) -> list[Path]:
    """Draw figures of runs and return their files.

    Raises:
        ReldropError: there is no such run, it lacks what is to be drawn, or a file cannot be written.
    """
    check(cfg, Settings, groups=("machine",))
    settings = Settings(**OmegaConf.to_container(cfg, resolve=True))
    output = None if cfg.output is None else Path(str(cfg.output)).expanduser()
    if output is not None and output.suffix not in ("", *SUFFIXES):
        raise ReldropError(f"output={cfg.output} must end with {' or '.join(SUFFIXES)}, or be a folder")
    from reldrop.runs.reader import find_runs

    runs = [settings.run] if isinstance(settings.run, str | float) else settings.run
    found = find_runs([str(run) for run in runs])
    draw_kind = {"examples": _examples, "training": _training, "ablation": _ablation}.get(settings.kind, _evaluation)
    figures = draw_kind(settings, found)
    from reldrop.plotting.layout import save, save_as  # matplotlib takes a second

    if output is not None and output.suffix:
        if len(figures) > 1:
            raise ReldropError(
                f"output={cfg.output}: kind={cfg.kind} draws {', '.join(figures)}; set output to a folder"
            )
        with writing(str(output), "set output=FILE to another one"):
            output.parent.mkdir(parents=True, exist_ok=True)
            save_as(next(iter(figures.values())), output)
        return [output]
    folder = output or (
        Path("results/figures") if len(found) > 1 else found[0].parent if found[0].is_file() else found[0]
    )
    with writing(str(folder), "set output=FOLDER to another one"):
        folder.mkdir(parents=True, exist_ok=True)
        return list(save(figures, folder).values())


def _examples(settings: Settings, runs: list[Path]) -> "dict[str, Figure]":
    """Relevance for some test samples and what is occluded: of one run, or of the first run of each arm."""
    from reldrop.plotting.examples import arms_figure, checkpoint_figure  # torch takes seconds
    from reldrop.runs.checkpoint import read_checkpoint

    checkpoints = [read_checkpoint(run, settings.checkpoint) for run in runs]
    first = checkpoints[0]
    if others := [each.run for each in checkpoints if each.cfg.dataset != first.cfg.dataset]:
        raise ReldropError(f"{others[0]} has other data than {first.run}; draw the runs of one data set")
    data = first.data(None if settings.data_dir is None else str(settings.data_dir))
    attribution = build(first.cfg, "attribution")
    if len(checkpoints) == 1:
        model = first.network(**data.model_kwargs)
        return {"examples": checkpoint_figure(first, data, model, attribution, count=settings.samples)}
    arms = {each.cfg.augmentation.name: each for each in reversed(checkpoints)}
    return {"examples": arms_figure([*arms.values()][::-1], data, attribution, settings.samples)}


def _training(settings: Settings, runs: list[Path]) -> "dict[str, Figure]":
    """Metrics over the epochs, means over the runs of each arm."""
    from reldrop.plotting.runs import TRAINING, training_figure
    from reldrop.reporting.cells import Score
    from reldrop.reporting.layouts import column_title
    from reldrop.runs.reader import RunFolder

    records = _records(runs)
    histories: dict[str, list] = {}
    for record in records:
        histories.setdefault(column_title(record, records), []).append(RunFolder(Path(record.run)).history())
    chosen = [settings.metric] if isinstance(settings.metric, str) else settings.metric or TRAINING
    return {"training": training_figure(histories, [Score(key) for key in chosen])}


def _ablation(settings: Settings, runs: list[Path]) -> "dict[str, Figure]":
    """A metric over the values of a setting."""
    from reldrop.plotting.runs import ablated, ablation_figure
    from reldrop.reporting.cells import Score

    metric, records = settings.metric or "test/top1", _records(runs)
    if not isinstance(metric, str):
        raise ReldropError(f"metric={','.join(metric)}: kind=ablation draws one")
    key = ablated(records, settings.x)
    return {"ablation": ablation_figure(records, Score(metric), key, _defaults(records, key))}


def _evaluation(settings: Settings, runs: list[Path]) -> "dict[str, Figure]":
    """What python -m reldrop.evaluate has measured of the runs."""
    from reldrop.evaluation.evaluator import Evaluation
    from reldrop.plotting.curves import contest_figures, evaluation_figures
    from reldrop.reporting.comparison import contest_of

    evaluations = [Evaluation.read(run, "evaluation") for run in runs]
    for run, evaluation in zip(runs, evaluations, strict=True):
        if evaluation is None:
            raise ReldropError(f"{run} has no evaluation; run python -m reldrop.evaluate run={run}")
    is_one = len(evaluations) == 1
    figures = evaluation_figures(evaluations[0]) if is_one else contest_figures(contest_of(evaluations))
    if settings.kind == "evaluation":
        return figures
    if settings.kind not in figures:
        raise ReldropError(f"kind={settings.kind} is not in this evaluation; it has {', '.join(figures)}")
    return {settings.kind: figures[settings.kind]}


def _records(runs: list[Path]) -> "list[Record]":
    from reldrop.reporting.records import read_record
    from reldrop.runs.reader import RunFolder

    return [read_record(RunFolder(run)) for run in runs]


def _defaults(records: "Sequence[Record]", key: str) -> dict[str, str]:
    """Return the default of a setting for each augmentation, as text; without those that cannot be composed."""
    from reldrop.reporting.records import as_text

    found = {}
    group = key.partition(".")[0]
    for record in records:
        words = [
            f"{name}={record.settings[f'{name}.name']}"
            for name in {"augmentation", group}
            if f"{name}.name" in record.settings
        ]
        started = GlobalHydra.instance().is_initialized()  # by the command line, with the user's own choices
        with nullcontext() if started else initialize_config_dir(CONFIG_PATH, version_base="1.3"):
            try:
                value = OmegaConf.select(compose("train", words), key)
            except HydraException:  # of the user's own
                continue
        if value is not None:
            value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            found[record.augmentation] = as_text(value)
    return found


def _print(cfg: DictConfig) -> None:
    for file in draw(cfg):
        print(file)


def command() -> None:
    run_command(_print, "figures", "figures that are there are whole")


if __name__ == "__main__":
    command()
