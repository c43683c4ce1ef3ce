"""Commands."""

import shlex
from dataclasses import replace

from reldrop.reporting.commands import command_like
from reldrop.reporting.layouts import paper_table, table_of_settings
from tests.helpers.tables import TOP1, arm, composed, has_settings_of


def test_commands_compose_to_the_missing_run(records):
    table = paper_table("table1", records, None, 0.95)
    none, random, block = table.rows[0].cells
    assert none.command is None
    assert block.command is None
    missing = composed(random.command)
    assert missing.seed == 2
    assert has_settings_of(missing, arm(records, "random_erasing")[0])
    without = [run for run in records if run.augmentation != "random_erasing"]
    table = table_of_settings(without, [TOP1], 0.95)
    cell = table.rows[1].cells[0]
    assert cell.augmentation == "random_erasing"
    words = shlex.split(cell.command)
    assert words[3] == "-m"
    assert words.pop() == "seed=0,1,2"
    words[3:4] = []
    assert composed(shlex.join([*words, "seed=1"])).setting == missing.setting


def test_commands_of_older_runs(records):
    """Without overrides, the values of a sweep are replaced by those of the run."""
    block = arm(records, "reldrop_block")[1]

    def like(command, augmentation="reldrop_block"):
        run = replace(block, starts=[{"command": command}])
        return command_like(run, [7], augmentation)

    sweep = (
        "/x/reldrop/train.py -m augmentation=none,reldrop_block seed=0,1 optimizer.lr=0.1,0.2 dataset.mean=[0.3,0.4]"
    )
    rest = "optimizer.lr=0.1 'dataset.mean=[0.3,0.4]'"
    assert like(sweep) == f"python -m reldrop.train augmentation=reldrop_block {rest} seed=7"
    assert like(f"{sweep} augmentation.k=3", "none") == f"python -m reldrop.train {rest} augmentation=none seed=7"
    assert (
        like("train.py backbone=resnet18,resnet_tiny force=true")
        == "python -m reldrop.train backbone=resnet_tiny seed=7"
    )
    assert like("-m submitit.core._submit folder") is None
    assert like("train.py +unknown.key=1,2") is None
    assert like("train.py +experiment=paper/ablation_k") is None  # its grid is not in the command
