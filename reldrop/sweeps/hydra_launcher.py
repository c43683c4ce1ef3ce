"""Connects Hydra and sweeps: the runs of `-m` go to `reldrop.sweeps.sweep.Sweep`."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

PACKAGE = "hydra_plugins"


class ReldropLauncher(Launcher):
    """Hands the runs of a sweep to `reldrop.sweeps.sweep.Sweep`."""

    train: Callable[[DictConfig], Any]
    check: Callable[[DictConfig], None]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from reldrop.sweeps.sweep import Sweep

        self.sweep = Sweep(hydra_context.config_loader, config, type(self).train, type(self).check)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Return for each run its test accuracy, or nan: a failed one is in the table, and no error of the sweep."""
        values = self.sweep.launch([list(overrides) for overrides in job_overrides])
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in values]


def register(train: Callable[[DictConfig], Any], check: Callable[[DictConfig], None]) -> None:
    """Make the launcher known to Hydra as hydra/launcher=reldrop; call it before `hydra.main` runs.

    Hydra takes launchers only from the package hydra_plugins, so the launcher gets a name there.

    Args:
        train: trains the run of a configuration in this process.
        check: refuses a configuration with a mistake.
    """
    ReldropLauncher.train, ReldropLauncher.check = staticmethod(train), staticmethod(check)
    ReldropLauncher.__module__ = f"{PACKAGE}.reldrop"
    Plugins.instance().register(ReldropLauncher)
    with suppress(ImportError):  # there is one if another plugin is installed
        import_module(PACKAGE)
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.reldrop = sys.modules[ReldropLauncher.__module__] = sys.modules[__name__]
