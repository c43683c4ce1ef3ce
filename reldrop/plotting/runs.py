"""Figures of runs from their folders: curves of training, and a metric over the values of a setting."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reldrop.plotting.layout import COLUMN, counted, explain, looked, mean_and_band, styled
from reldrop.reporting.arms import ARMS, looks
from reldrop.reporting.cells import Score
from reldrop.reporting.layouts import differing_keys, key_title, value_text
from reldrop.reporting.records import Record
from reldrop.utils.errors import ReldropError

TRAINING = ("train/loss", "test/top1")
LABELS = {"test/top1": "test accuracy (%)", "test/class_mean": "test mean class accuracy (%)"}  # others: the registry's


@styled
def training_figure(histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], scores: Sequence[Score]) -> Figure:
    """Return a figure with a panel for each score over the epochs, one below the other, a line for each arm.

    Args:
        histories: arm -> the records of the epochs of each of its runs, see `RunFolder.history`.
        scores: what is drawn of them.

    Raises:
        ReldropError: no run has logged a score.
    """
    figure = Figure(figsize=(COLUMN, 0.8 + 1.5 * len(scores)), layout="constrained")
    axes, arms = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0], looks(list(histories))
    for axis, score in zip(axes, scores, strict=True):
        for arm, runs in histories.items():
            logged = [
                {run["epoch"]: run[score.key] for run in records if run.get(score.key) is not None} for records in runs
            ]
            epochs = sorted({epoch for values in logged for epoch in values})
            values = np.array([[values.get(epoch, np.nan) for epoch in epochs] for values in logged], dtype=float)
            if epochs:
                mean_and_band(axis, np.array(epochs), score.metric.scale * values, arm, arms)
        if not axis.lines:
            raise ReldropError(f"metric={score.key} is in no record of these runs; see docs/metrics.md")
        axis.set_ylabel(LABELS.get(score.key, score.metric.label))
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    explain(figure, counted(histories), axes[0])
    return figure


@styled
def ablation_figure(
    records: Sequence[Record], score: Score, key: str | None = None, defaults: Mapping[str, str] | None = None
) -> Figure:
    """Return a figure of a metric over the values of a setting: means over seeds, with bars of one standard deviation.

    There is a line for each arm and each value of the other settings in which the runs differ, and one across for an arm
    without the setting.

    Args:
        records: of the runs.
        score: what is drawn of them.
        key: the setting, e.g. augmentation.k; None for the one in which most values differ.
        defaults: augmentation -> the setting's default as text, which gets a ring.

    Raises:
        ReldropError: the runs do not differ in the setting, or none has the metric.
    """
    records, defaults = [record for record in records if score.key in record.figures], defaults or {}
    if not records:
        raise ReldropError(f"metric={score.key} is in none of these runs")
    key = ablated(records, key)
    others = [other for other in differing_keys(records) if other not in (key, "augmentation.name")]
    lines: dict[str, dict[str, list[float]]] = {}
    for record in records:
        settings = [f"{key_title(other)} {value_text(record, other)}" for other in others if other in record.settings]
        values = lines.setdefault(", ".join([record.augmentation, *settings]), {})
        values.setdefault(value_text(record, key), []).append(score.metric.scale * record.figures[score.key])
    texts = {text for values in lines.values() for text in values} - {"-"}
    numbers = {text: float(text) for text in texts if text.replace(".", "", 1).replace("e-", "", 1).isdigit()}
    ordered = sorted(texts, key=lambda text: (numbers.get(text, np.inf), text))
    figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
    axis = figure.subplots()
    order = sorted(lines, key=lambda arm: [*ARMS].index(name) if (name := arm.partition(",")[0]) in ARMS else len(ARMS))
    arms = looks(order)
    for arm in order:
        _draw_arm(axis, lines[arm], ordered, looked(arm, arms), defaults.get(arm.partition(",")[0]))
    axis.set_xticks(range(len(ordered)), ordered)
    axis.set(xlabel=key_title(key), ylabel=LABELS.get(score.key, score.metric.label))
    axis.margins(x=0.08)
    cells = {(arm, value): runs for arm, values in lines.items() for value, runs in values.items()}
    explain(figure, counted(cells, "bars"), axis)
    return figure


def ablated(records: Sequence[Record], key: str | None) -> str:
    """Return the setting over which runs are drawn: `key`, or the one of theirs that has most values.

    Raises:
        ReldropError: the runs do not differ in it.
    """
    values = {each: {value_text(record, each) for record in records} - {"-"} for each in differing_keys(records)}
    counts = {each: len(found) for each, found in values.items() if len(found) > 1}
    if not counts:
        raise ReldropError(
            "kind=ablation is of runs that differ in a setting; give several: run='results/runs/NAME/*/seed*'"
        )
    if key is not None and key not in counts:
        raise ReldropError(f"x={key} has one value in these runs; they differ in {', '.join(counts)}")
    own = {each: count for each, count in counts.items() if each != "augmentation.name"} or counts
    return key or max(own, key=own.__getitem__)


def _draw_arm(
    axis: Axes, values: Mapping[str, Sequence[float]], texts: Sequence[str], style: dict[str, Any], default: str | None
) -> None:
    def spread(runs: Sequence[float]) -> float:
        return float(np.std(runs, ddof=1)) if len(runs) > 1 else 0.0

    if "-" in values:  # it has no such setting
        axis.axhline(np.mean(values["-"]), **style | {"marker": ""})
        axis.axhspan(
            *(np.mean(values["-"]) + side * spread(values["-"]) for side in (-1, 1)), color=style["color"], alpha=0.1
        )
        return
    places = [place for place, text in enumerate(texts) if text in values]
    runs = [values[texts[place]] for place in places]
    axis.errorbar(places, [np.mean(each) for each in runs], [spread(each) for each in runs], capsize=2, **style)
    if default in values:
        ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linestyle": "", "color": "0.3"}
        named = "default" not in axis.get_legend_handles_labels()[1]
        axis.plot(texts.index(default), np.mean(values[default]), **ring, label="default" if named else None)
