"""A sweep: many runs by one command, through the launcher that the configuration names."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
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

logger = logging.getLogger("reldrop")


class Sweep:
    """Gives the runs that are missing to the launcher.

    Args:
        loader: composes the configuration of each run.
        config: the composed configuration of the sweep, with the node `hydra`.
        train: trains the run of a configuration in this process.
        check: refuses a configuration with a mistake.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        config: DictConfig,
        train: Callable[[DictConfig], Any],
        check: Callable[[DictConfig], None],
    ) -> None:
        self._loader, self._config, self._train, self._check = loader, config, train, check
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

    def launch(self, overrides: list[list[str]]) -> list[float]:
        """Train the runs of these overrides; return their test accuracies, nan where there is none."""
        runs = [self._compose(each) for each in overrides]
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
        return [found[folder].accuracy for folder, _, _ in runs]

    def _compose(self, overrides: list[str]) -> tuple[Path, DictConfig, list[str]]:
        """Compose the configuration of a run and check it, so that nothing begins with a mistake in one of them.

        Returns:
            its folder, its configuration, and all that it was composed with.
        """
        composed = self._loader.load_sweep_config(self._config, overrides)
        cfg = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        try:
            absolute_paths(cfg)
            self._check(cfg)
            return run_folder(cfg), cfg, list(composed.hydra.overrides.task)
        except ReldropError as error:
            own = [override for override in overrides if not override.startswith("launcher")]
            raise ReldropError(f"{error} (in the run {' '.join(own)})") from error

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
                lambda folder: self._train(OmegaConf.merge(configs[folder], {"force": False})),
            )
        except ReldropError:
            if launched().rank == 0:
                for folder in new:
                    discard(folder)
            raise
