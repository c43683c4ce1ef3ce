"""Figures of runs that are compared."""

from pathlib import Path

from reldrop.plotting.curves import dot_figure, figures_of, save
from reldrop.reporting.comparison import Contest


def draw_contest(contest: Contest, folder: Path) -> None:
    """Draw curves, blocks and regions of several arms, and a dot for each run and metric, into a folder."""
    runs = {title: list(of_seed.values()) for title, of_seed in contest.evaluations.items()}
    arrays = {
        title: [{key: values.numpy() for key, values in one.samples.items()} for one in ones]
        for title, ones in runs.items()
    }
    first = next(iter(runs.values()))[0].figures
    figures = figures_of(arrays, first["settings"]["suite"]["blocks"], first["hidden"])
    figures["metrics"] = dot_figure(
        {
            row.labels["metric"]: {
                title: [cell.score.metric.scale * value for value in cell.arm.values(cell.score).values()]
                for title, cell in zip(runs, row.cells, strict=True)
            }
            for row in contest.table.rows
        }
    )
    for name, figure in figures.items():
        save(figure, folder / name)
