"""Status."""

import contextlib
import fcntl
import re
import threading

from omegaconf import OmegaConf

from reldrop.runs.identity import run_folder
from reldrop.runs.reader import RunFolder
from reldrop.runs.run import Run, prepare
from tests.helpers.tables import run


def named(results):
    """Return the configuration of an earlier run, with names as today's choices have them."""
    cfg = OmegaConf.load(next(results.glob("runs/*/none/seed0*/config.yaml")))
    cfg.results_dir = str(results)
    for choice in cfg.values():
        if OmegaConf.is_dict(choice) and "name" not in choice:
            choice.name = "some"
    return cfg


def test_status(capsys, monkeypatch, results):
    cfg = named(results)
    folders = {}
    for seed, name in enumerate(("running", "failed", "interrupted"), start=5):
        cfg.seed = seed
        folders[name] = run_folder(cfg)
        with contextlib.suppress(RuntimeError), Run(cfg) as started:
            started.log({"epoch": 1, "step": 7})
            started.log({"epoch": 2, "step": 14})
            if name == "failed":
                raise RuntimeError("no more memory")
            if name == "running":
                held = RunFolder(started.path)
                assert (held.state, held.progress) == ("running", "epoch 2 of 5")
    with (folders["interrupted"] / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "st')  # cut off
    (results / "runs" / "digits_resnet" / "none" / "seed9-00000000").mkdir()
    finished = next(results.glob("runs/*/reldrop_block/seed0*"))
    assert RunFolder(folders["running"]).state == "interrupted"  # nobody holds it any more
    prepare(OmegaConf.merge(cfg, {"seed": 8}), [])
    lines = run(capsys, monkeypatch, "status", results).out.splitlines()
    assert lines[-1] == "13 runs: 8 finished, 2 interrupted, 1 failed, 1 waiting, 1 unreadable"
    by_folder = {line.split()[2]: line for line in lines[2:-2]}
    assert re.search(r"failed +epoch 2 of 5 +RuntimeError: no more memory$", by_folder[folders["failed"].name])
    assert re.search(r"interrupted +epoch 2 of 5$", by_folder[folders["interrupted"].name])
    assert "finished" in by_folder[finished.name]


def test_steps_of_a_run_that_is_limited_in_them(results):
    folder = next(results.glob("runs/*/none/seed0*"))
    config = OmegaConf.load(folder / "config.yaml")
    config.trainer.max_steps = 100
    OmegaConf.save(config, folder / "config.yaml")
    (folder / "metrics.jsonl").write_text('{"epoch": 5, "step": 35}\n')
    assert RunFolder(folder).progress == "step 35 of 100"


def test_looking_at_a_run_does_not_keep_it_from_starting(results):
    cfg = named(results)
    cfg.seed = 5
    with Run(cfg) as first:
        assert first.is_held
    assert not first.is_held
    with (first.path / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with Run(cfg) as second:
            assert second.path == first.path
