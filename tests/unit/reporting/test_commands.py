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


def test_settings_of_one_augmentation_are_none_of_another(records):
    words = [
        "+experiment=cifar_resnet",
        "augmentation=reldrop_block",
        "+augmentation.k=3",
        "seed=1",
        "optimizer.lr=0.1",
    ]
    block = replace(arm(records, "reldrop_block")[1], starts=[{"overrides": [*words, "force=true", "x.y=[1,2]"]}])
    kept = "python -m reldrop.train +experiment=cifar_resnet"
    same = f"{kept} augmentation=reldrop_block +augmentation.k=3 optimizer.lr=0.1 'x.y=[1,2]' seed=7"
    assert command_like(block, [7], "reldrop_block") == same
    other = f"{kept} optimizer.lr=0.1 'x.y=[1,2]' augmentation=none seed=7"
    assert command_like(block, [7], "none") == other


def test_no_command_without_recorded_overrides(records):
    """They are not guessed, e.g. from the words of a sweep."""
    block = arm(records, "reldrop_block")[1]
    for starts in ([], [{"commit": "0", "dirty": False}]):
        assert command_like(replace(block, starts=starts), [7], "reldrop_block") is None
