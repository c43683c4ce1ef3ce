"""A sweep: many runs by one command, through the launcher that the configuration names, and a table of how they ended."""

import logging
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from reldrop.utils.errors import ReldropError, first_line

# What trains is imported where it is used: a job must be read, and its handler of signals be in place, before that takes time.
if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

logger = logging.getLogger("reldrop")


@dataclass(frozen=True)
class Job:
    """A run on its way to the process that trains it.

    Args:
        folder: of the run.
        cfg: its configuration, composed when the sweep began, with its interpolations: later changes of files do not matter.
        composed: the same with Hydra's own part.
        command: the arguments of the command that began the sweep, which the run takes down.
    """

    folder: Path
    cfg: dict[str, Any]
    composed: DictConfig
    command: list[str]

    @property
    def label(self) -> str:
        """The run in a word that is the name of a file: experiment, augmentation, and seed with hash."""
        return ".".join(self.folder.parts[-3:])

    def __call__(self) -> str | None:
        """Do all that a process has been started for."""
        from reldrop.distributed.launch import disconnect

        word = self.train()
        disconnect()
        return word

    def train(self) -> str | None:
        """Train; return what went wrong, in a line, or None. One of several processes ends all of them instead."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.core.utils import configure_log

        from reldrop.distributed.launch import abort, launched
        from reldrop.train import train

        HydraConfig.instance().set_config(self.composed)
        configure_log(HydraConfig.get().job_logging)
        sys.argv = self.command
        try:
            train(OmegaConf.create(self.cfg), self.composed.hydra.overrides.task)
            return None
        except Exception as error:
            known = isinstance(error, ReldropError)
            if launched().processes > 1:
                abort(f"error: {error}" if known else traceback.format_exc(), known)
            # As a word: an exception of some library might not survive the way to another process.
            logger.error("failed: %s", error if known else traceback.format_exc())
            return str(error) if known else f"{type(error).__name__}: {first_line(error)}"

    def checkpoint(self) -> Any:
        """Return, for submitit to put back into the queue, the same again: it is in its folder that a run goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep stands at its end: already there, finished, failed or submitted."""

    label: str
    state: str
    detail: str
    accuracy: float = float("nan")


outcomes: list[Outcome] = []  # of the sweeps of this process, for `report`


class Sweep:
    """Gives the runs that are missing to the launcher.

    Args:
        loader: composes the configuration of each run.
        config: the composed configuration of the sweep, with the node `hydra`.
    """

    def __init__(self, loader: "ConfigLoader", config: DictConfig) -> None:
        from reldrop.config import build, check_group
        from reldrop.distributed.launch import launched
        from reldrop.sweeps.launchers import Local

        self._loader, self._config = loader, config
        with _in_a_sentence():
            check_group(config, "launcher")
            self._launcher = build(config, "launcher")
            if launched().processes > 1 and not isinstance(self._launcher, Local):
                raise ReldropError(
                    "torchrun and srun start processes for launcher=local only; other launchers do so themselves"
                )

    def launch(self, overrides: list[list[str]]) -> list[float]:
        """Train the runs of these overrides; return their test accuracies, nan where there is none."""
        from reldrop.distributed.launch import launched
        from reldrop.runs.queue import record_queue
        from reldrop.runs.reader import RunFolder

        with _in_a_sentence(self._launcher.interrupted):
            jobs = [self._job(each) for each in overrides]
            missing = list(
                {job.folder: job for job in jobs if not RunFolder(job.folder).summary() or job.cfg["force"]}.values()
            )
            logger.info("%d runs, of which %d are to be trained", len({job.folder for job in jobs}), len(missing))
            missing = [_cleared(job) for job in missing]
            with record_queue([job.folder for job in missing]) if launched().rank == 0 else nullcontext():
                said = self._launcher.run(missing, Path(self._config.hydra.sweep.dir).absolute()) if missing else []
        found = {job.folder: _outcome(job.folder, "already there", None) for job in jobs}
        for job, word in zip(missing, said, strict=True):
            found[job.folder] = _outcome(job.folder, "finished" if self._launcher.waits else "submitted", word)
        outcomes.extend(found.values())
        return [found[job.folder].accuracy for job in jobs]

    def _job(self, overrides: list[str]) -> Job:
        """Compose the configuration of a run, and check it: nothing begins with a mistake in one of them."""
        from reldrop.runs.identity import run_folder
        from reldrop.train import check

        composed = self._loader.load_sweep_config(self._config, overrides)
        with open_dict(composed):
            composed.hydra.runtime.output_dir = composed.hydra.sweep.dir
        cfg = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        try:
            check(cfg)
            folder = run_folder(cfg).absolute()
        except ReldropError as error:
            own = [override for override in overrides if not override.startswith("launcher")]
            raise ReldropError(f"{error} (in the run {' '.join(own)})") from error
        return Job(folder, OmegaConf.to_container(cfg), composed, sys.argv)


def report() -> int:
    """Print a table of the runs of this process's sweeps, if there were any; return the exit code, 1 if some failed."""
    from reldrop.distributed.launch import launched

    if not outcomes or launched().rank:  # other processes have the same to say
        return 0
    width = max(len(outcome.label) for outcome in outcomes)
    print("\n".join(f"{each.label:{width}}  {each.state:13}  {each.detail}".rstrip() for each in outcomes))
    counts = Counter(outcome.state for outcome in outcomes)
    print(f"{len(outcomes)} runs: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    return 1 if counts["failed"] else 0


@contextmanager
def _in_a_sentence(interrupted: str = "") -> Iterator[None]:
    """End the command for what its user can mend; Hydra would show a traceback of itself."""
    try:
        yield
    except ReldropError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {interrupted}")


def _cleared(job: Job) -> Job:
    """Start the run over now if its configuration says so: a job that is put back into a queue must go on instead."""
    from reldrop.distributed.launch import launched
    from reldrop.runs.run import Run

    if not job.cfg["force"]:
        return job
    if launched().rank == 0:
        Run(OmegaConf.create(job.cfg)).close()
    return replace(job, cfg={**job.cfg, "force": False})


def _outcome(folder: Path, state: str, word: str | None) -> Outcome:
    from reldrop.runs.reader import RunFolder

    run = RunFolder(folder)
    label, summary = run.label, run.summary()
    if summary is not None:
        return Outcome(label, state, f"test accuracy {summary['test_top1']:.2%}", summary["test_top1"])
    if state == "submitted":
        return Outcome(label, state, word or "")
    # The exact reason, also of a job that could not say it.
    return Outcome(label, "failed", run.failure or word or "ended without a word")
