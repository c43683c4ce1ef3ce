"""A sweep: many runs by one command, through the launcher that the configuration names."""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from reldrop.config import absolute_paths, build, check_group
from reldrop.distributed.launch import launched
from reldrop.runs.identity import run_folder
from reldrop.runs.reader import RunFolder
from reldrop.runs.run import discard, prepare
from reldrop.sweeps.job import Job
from reldrop.sweeps.local import Local
from reldrop.sweeps.outcomes import result_of, results
from reldrop.utils.errors import ReldropError
from reldrop.utils.io import writing

PACKAGE = "hydra_plugins"

logger = logging.getLogger("reldrop")


class Sweep(Launcher):
    """Gives the runs of a sweep that are missing to the launcher of the configuration; it is Hydra's hydra/launcher=reldrop."""

    train: Callable[[DictConfig], Any]
    check: Callable[[DictConfig], None]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._loader, self._config = hydra_context.config_loader, config
        absolute_paths(config)
        check_group(config, "launcher")
        self._launcher = build(config, "launcher")
        if launched().processes > 1 and not isinstance(self._launcher, Local):
            raise ReldropError(
                "torchrun and srun start processes for launcher=local only; other launchers do so themselves"
            )
        self._logs = Path(config.hydra.sweep.dir)
        with writing(f"to folder {self._logs}", "set results_dir to a folder that can be written"):
            self._logs.mkdir(parents=True, exist_ok=True)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the runs of these overrides; return for each its test accuracy, or nan: a failed one is in the table."""
        try:
            return self._launch(job_overrides)
        except Exception:  # ours, or one of Hydra's for a choice that there is not
            self._remove_empty()
            raise

    def _launch(self, job_overrides: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        runs = [self._compose(list(each)) for each in job_overrides]
        if not runs:
            raise ReldropError("the sweep has no runs; an empty list or range is among its settings")
        if any(cfg.trainer.fast_dev_run for _, cfg, _ in runs):
            raise ReldropError("trainer.fast_dev_run=true leaves no run for a sweep; try one run with it, without -m")
        configs = {folder: cfg for folder, cfg, _ in runs}
        missing = {folder: words for folder, cfg, words in runs if cfg.force or RunFolder(folder).summary() is None}
        logger.info("%d runs, of which %d are to be trained", len(configs), len(missing))
        try:
            messages = self._run(configs, missing) if missing else []
        except KeyboardInterrupt:
            sys.exit(f"interrupted; {self._launcher.interrupted}")
        found = {folder: result_of(folder, "already there", None) for folder in configs}
        for folder, message in zip(missing, messages, strict=True):
            found[folder] = result_of(folder, "finished" if self._launcher.waits else "submitted", message)
        results.extend(found.values())
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=found[folder].accuracy) for folder, _, _ in runs]

    def _compose(self, overrides: list[str]) -> tuple[Path, DictConfig, list[str]]:
        """Compose the configuration of a run and check it, so that nothing begins with a mistake in one of them.

        Returns:
            its folder, its configuration, and all that it was composed with.
        """
        composed = self._loader.load_sweep_config(self._config, overrides)
        cfg = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        try:
            absolute_paths(cfg)
            self.check(cfg)
            return run_folder(cfg), cfg, list(composed.hydra.overrides.task)
        except ReldropError as error:
            own = [override for override in overrides if not override.startswith("launcher")]
            raise ReldropError(f"{error} (in the run {' '.join(own)})") from error

    def _remove_empty(self) -> None:
        """Remove what Hydra has written for this sweep, and the folders that are then empty."""
        with suppress(OSError):  # other sweeps and runs are there
            (self._logs / "multirun.yaml").unlink()
            self._logs.rmdir()
            self._logs.parent.rmdir()

    def _run(self, configs: dict[Path, DictConfig], missing: dict[Path, list[str]]) -> list[str | None]:
        """Write the folders of the missing runs, and hand them to the launcher; if it refuses, remove the new ones."""
        new = [folder for folder in missing if not folder.exists()]
        try:
            if launched().rank == 0:
                for folder, words in missing.items():
                    prepare(configs[folder], words)
            # In this process without the files, which another process may be about to write; and `prepare` has cleared them.
            return self._launcher.run(
                [Job(folder) for folder in missing],
                self._logs,
                lambda folder: self.train(OmegaConf.merge(configs[folder], {"force": False})),
            )
        except ReldropError:
            if launched().rank == 0:
                for folder in new:
                    discard(folder)
            raise


def register(train: Callable[[DictConfig], Any], check: Callable[[DictConfig], None]) -> None:
    """Make `Sweep` known to Hydra; call it before `hydra.main` runs.

    Hydra takes launchers only from the package hydra_plugins, so `Sweep` gets a name there.

    Args:
        train: trains the run of a configuration in this process.
        check: refuses a configuration with a mistake.
    """
    Sweep.train, Sweep.check = staticmethod(train), staticmethod(check)
    Sweep.__module__ = f"{PACKAGE}.reldrop"
    Plugins.instance().register(Sweep)
    with suppress(ImportError):  # there is one if another plugin is installed
        import_module(PACKAGE)
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.reldrop = sys.modules[Sweep.__module__] = sys.modules[__name__]
