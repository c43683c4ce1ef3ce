"""Where Hydra looks for launchers: the way from its sweeps to `reldrop.sweeps.sweep`. Hydra imports this at every start."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ReldropLauncher(Launcher):
    """Hands the runs of a sweep to `reldrop.sweeps.sweep.Sweep`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from reldrop.sweeps.sweep import Sweep

        self.sweep = Sweep(hydra_context.config_loader, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Return for each run its test accuracy, or nan: a failed one is in the table, and no error of the sweep."""
        values = self.sweep.launch([list(overrides) for overrides in job_overrides])
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in values]
