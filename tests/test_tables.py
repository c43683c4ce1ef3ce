"""Tables of run folders; the fixtures are real runs on the embedded digits, far too short to say anything."""

import csv
import fcntl
import json
import re
import shlex
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from reldrop import tables
from reldrop.config import CONFIG_PATH
from reldrop.errors import ReldropError
from reldrop.reporting.cells import Cell, arm_of, compare_all
from reldrop.reporting.commands import command_like
from reldrop.reporting.formats import comma_separated, latex, markdown, terminal
from reldrop.reporting.layouts import ablation_table, paper_table, table_of_settings
from reldrop.reporting.published import COLUMNS
from reldrop.reporting.records import Record, read_runs, select
from reldrop.reporting.scores import Score
from reldrop.reporting.status import status_of
from reldrop.runs import Run, is_held, run_folder

FIXTURES = Path(__file__).parent / "fixtures"
RUNS = FIXTURES / "tables"
TOP1 = Score("test_top1")


@pytest.fixture(scope="module")
def records():
    records, remarks = read_runs(RUNS)
    assert not remarks
    return records


@pytest.fixture
def results(tmp_path):
    """A copy of the fixture's runs, to be spoiled."""
    shutil.copytree(RUNS / "runs", tmp_path / "results" / "runs")
    return tmp_path / "results"


def run(capsys, monkeypatch, *words):
    """Return what the command prints, to its two streams."""
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, words)])
    tables.main()
    return capsys.readouterr()


def fails(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        tables.main()
    assert stop.value.code.startswith("error: ")
    return stop.value.code


def changed(record, seed=None, figures=None, **settings):
    """Return a record with other settings (a__b for a.b), as of another run."""
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    return replace(
        record,
        run=f"{record.run}-{sorted(settings.items())}-{seed}",
        seed=record.seed if seed is None else seed,
        settings={**record.settings, **settings},
        figures={**record.figures, **(figures or {})},
    )


def arm(records, name):
    return [record for record in records if record.augmentation == name]


def mean_of(records, key="test_top1"):
    return sum(record.figures[key] for record in records) / len(records)


def on_seeds(record, values, key="test_top1", **settings):
    return [changed(record, seed, {key: value}, **settings) for seed, value in enumerate(values)]


# ---- what is read ---------------------------------------------------------------------------------------------------


def test_records_of_folders(records):
    assert [(record.augmentation, record.seed) for record in records] == [
        *(("none", seed) for seed in range(3)),
        *(("random_erasing", seed) for seed in range(2)),
        *(("reldrop_block", seed) for seed in range(3)),
    ]
    for record in records:
        summary = json.loads((Path(record.run) / "summary.json").read_text())
        assert record.figures["test_top1"] == summary["test_top1"]
        assert record.conditions["summary.source"] == "embedded in scikit-learn"


@pytest.mark.parametrize("experiment", ["digits_resnet", "cifar_resnet", "modelnet_pointnet2"])
def test_the_hash_is_that_of_the_run_folder(tmp_path, experiment):
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", [f"+experiment={experiment}", f"data_dir={tmp_path}", "seed=3"])
    record = Record.of("", OmegaConf.to_container(cfg, resolve=True), figures={})
    assert run_folder(cfg).name == f"seed3-{record.config_hash}"


def test_where_the_data_lie_is_no_setting(results):
    file = next(results.glob("runs/*/none/seed0*/config.yaml"))
    config = OmegaConf.load(file)
    config.data_dir, config.dataset.root = "/a/b", "${data_dir}/c"
    here = Record.of("here", OmegaConf.to_container(config, resolve=True), figures={})
    config.data_dir = "/elsewhere"
    there = Record.of("there", OmegaConf.to_container(config, resolve=True), figures={})
    assert here.setting == there.setting
    assert here.settings["dataset.root"] == "/c"


def test_an_unreadable_run_among_good_ones(capsys, monkeypatch, results):
    first, second, third = sorted(results.glob("runs/*/none/seed*"))
    (first / "summary.json").write_text('{"test_top1": 0.')
    (second / "config.yaml").write_text("dataset: [")
    (third / "summary.json").unlink()
    out, err = run(capsys, monkeypatch, results)
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("warning: ") for line in lines)
    assert f"{first} is left out: summary.json is damaged" in lines[0]
    assert f"{second} is left out: " in lines[1]
    assert f"not finished and left out: {third} (see" in lines[2]
    assert "reldrop_block" in out


def test_runs_of_older_versions(results):
    """They may lack settings and figures of today, and how they were composed."""
    for folder in results.glob("runs/*/*/seed*"):
        config = OmegaConf.load(folder / "config.yaml")
        for group, key in (("trainer", "sync_batchnorm"), ("trainer", "label_smoothing"), ("attribution", "attention")):
            del config[group][key]
        OmegaConf.save(config, folder / "config.yaml")
        summary = json.loads((folder / "summary.json").read_text())
        kept = {key: value for key, value in summary.items() if "class_mean" not in key and "samples" not in key}
        (folder / "summary.json").write_text(json.dumps(kept))
        (folder / "environment.json").unlink()
    records, remarks = read_runs(results)
    assert len(records) == 8
    assert not remarks
    table = paper_table("table1", records, None, 0.95)
    assert [cell.summary.n for cell in table.cells] == [3, 2, 3]
    assert table.cells[1].command is None  # nothing tells how it was started


def test_figures_of_other_files_of_a_run(results):
    folder = next(results.glob("runs/*/none/seed0*"))
    content = {
        "subject": "digits_resnet/none/seed0, last checkpoint, 5 epochs",
        "seed": 0,
        "settings": {"suite": {"steps": 32}, "limit": None},
        "samples": 450,
        "clean": {"top1": 0.25, "curve": [1.0, 0.5]},
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
    record = read_runs(results)[0][0]
    assert record.figures["evaluation.clean.top1"] == 0.25
    assert record.figures["evaluation.clean.curve.1"] == 0.5
    measured = {key: value for key, value in record.conditions.items() if key.startswith("evaluation.")}
    assert measured == {
        "evaluation.settings.suite.steps": 32,
        "evaluation.settings.limit": None,
        "evaluation.checkpoint": "last checkpoint, 5 epochs",
        "evaluation.samples": 450,
    }
    cell = table_of_settings([record], [Score("evaluation.clean.top1")], 0.95).rows[0].cells[0]
    assert (cell.summary.n, cell.summary.mean) == (1, 0.25)


# ---- cells ----------------------------------------------------------------------------------------------------------


def test_runs_that_differ_are_refused_in_one_cell(records):
    none = arm(records, "none")
    other = [none[0], changed(none[1], trainer__epochs=9, optimizer__lr=0.2)]
    with pytest.raises(
        ReldropError, match=r"more than the seed: optimizer\.lr \(0\.1 or 0\.2\), trainer\.epochs \(5 or 9\)"
    ):
        arm_of(other, "digits none")
    with pytest.raises(
        ReldropError, match=r"digits_resnet digits resnet_tiny none differ.*the seed: trainer\.epochs \("
    ):
        paper_table("table1", [*records, changed(none[0], seed=7, trainer__epochs=9)], None, 0.95)
    with pytest.raises(ReldropError, match=r"two runs of seed 0.*where=run!="):
        arm_of([none[0], changed(none[0], seed=0, figures={"test_top1": 0.0})], "digits none")
    assert len(arm_of([none[0], changed(none[0])], "digits none").runs) == 1  # the same run twice is one


def test_arms_that_differ_are_refused_in_one_row(records):
    longer = [changed(record, trainer__epochs=9) for record in arm(records, "reldrop_block")]
    with pytest.raises(
        ReldropError, match=r"arms of digits_resnet digits resnet_tiny differ.*: trainer\.epochs \(5 or 9\)"
    ):
        paper_table("table1", [*arm(records, "none"), *longer], None, 0.95)


def test_figures_that_were_measured_differently_are_refused(records):
    none = arm(records, "none")
    other = replace(none[1], conditions={**none[1].conditions, "summary.source": "elsewhere"})
    message = r"not measured alike: summary\.source \(embedded in scikit-learn or elsewhere\)"
    with pytest.raises(ReldropError, match=message):
        table_of_settings([none[0], other], [TOP1], 0.95)
    moved = [replace(run, conditions=other.conditions) for run in arm(records, "reldrop_block")]
    with pytest.raises(ReldropError, match=message):
        paper_table("table1", [*none, *moved], None, 0.95)
    silent = [replace(run, conditions={}) for run in moved]
    assert paper_table("table1", [*none, *silent], None, 0.95).cells[2].summary.n == 3


def test_best_only_where_the_seeds_support_it(records):
    none, block = arm(records, "none")[0], arm(records, "reldrop_block")[0]
    random = arm(records, "random_erasing")[0]

    def best(of_none, of_random, of_block, score=TOP1):
        runs = ((none, of_none), (random, of_random), (block, of_block))
        cells = [Cell(score, run.augmentation, arm_of(on_seeds(run, values), "")) for run, values in runs]
        compare_all(cells, 0.95)
        return [cell.augmentation for cell in cells if cell.is_best]

    low, middle, high = (0.50, 0.52, 0.51), (0.60, 0.62, 0.605), (0.70, 0.72, 0.715)
    assert best(low, middle, high) == ["reldrop_block"]
    assert best(low, high, middle) == ["random_erasing"]
    assert best(low, middle, middle) == []  # no better than the other
    assert best(low[:2], middle[:2], high[:2]) == []  # too few seeds
    assert best(low, middle, (0.59, 0.90, 0.70)) == []  # best on average, but not clearly
    assert best(low, middle, high, Score("test_top1", better="lower")) == ["none"]


def test_the_baseline_of_an_arm_with_another_attribution(records):
    """An arm without relevance may stand for any attribution; where it was run for each, the same is taken."""
    none, block = arm(records, "none"), arm(records, "reldrop_block")
    official = {"attribution___target_": "reldrop.attribution.Official"}
    scores = [TOP1]
    one = table_of_settings([*none, *block, *(changed(run, **official) for run in block)], scores, 0.95)
    assert ["none" in row.cells[0].comparisons for row in one.rows if row.labels[3] == "reldrop_block"] == [True, True]
    lower = [changed(run, figures={"test_top1": 0.0}, **official) for run in none]
    two = table_of_settings([*none, *lower, *block, *(changed(run, **official) for run in block)], scores, 0.95)
    rows = [row.cells[0] for row in two.rows if row.labels[3] == "reldrop_block"]
    assert len({round(cell.comparisons["none"].difference, 6) for cell in rows}) == 2
    area = {"augmentation__area": [0.02, 0.1]}
    random = arm(records, "random_erasing")
    small = [changed(run, figures={"test_top1": 0.0}, **area) for run in random]
    three = table_of_settings([*random, *small, *block, *(changed(run, **area) for run in block)], scores, 0.95)
    rows = [row.cells[0] for row in three.rows if row.labels[3] == "reldrop_block"]
    expected = [mean_of(block[:2]), mean_of(block[:2]) - mean_of(random)]
    differences = [cell.comparisons["random occlusion"].difference for cell in rows]
    assert sorted(differences) == pytest.approx(sorted(expected))


# ---- layouts and formats --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        ("runs.txt", []),
        ("runs.md", ["metric=test_top1,generalisation_gap", "where=augmentation.name!=random_erasing"]),
        ("table1.md", ["paper=table1", f"reference={RUNS / 'reference.csv'}"]),
        ("table1.tex", ["paper=table1", "confidence=0.9"]),
        ("table1.csv", ["paper=table1", f"reference={RUNS / 'reference.csv'}"]),
        ("ablation.txt", ["paper=ablation", "where=seed=0,1"]),
    ],
)
def test_golden_tables(tmp_path, capsys, monkeypatch, golden, words):
    file = tmp_path / golden
    run(capsys, monkeypatch, RUNS, *words, f"output={file}")
    assert file.read_text() == (RUNS / "golden" / golden).read_text()


def test_the_figures_of_the_golden_table_by_hand(records):
    """The oracle of the golden files: mean, deviation and difference from the summaries alone."""
    values = {name: [run.figures["test_top1"] for run in arm(records, name)] for name in ("none", "reldrop_block")}
    mean = {name: sum(items) / 3 for name, items in values.items()}
    deviation = (sum((value - mean["none"]) ** 2 for value in values["none"]) / 2) ** 0.5
    golden = (RUNS / "golden" / "table1.md").read_text()
    assert f" {100 * mean['none']:.2f} ± {100 * deviation:.2f} (n=3) " in golden
    differences = [ours - theirs for ours, theirs in zip(values["reldrop_block"], values["none"], strict=True)]
    interval = f"[{100 * min(differences):+.2f}, {100 * max(differences):+.2f}]"
    assert f" {100 * (mean['reldrop_block'] - mean['none']):+.2f} {interval} (n=3, p=" in golden


def test_what_is_best_is_marked_in_every_format(records):
    none, block = arm(records, "none")[0], arm(records, "reldrop_block")[0]
    runs = [*on_seeds(none, (0.5, 0.52, 0.51)), *on_seeds(block, (0.7, 0.72, 0.715))]
    table = paper_table("table1", runs, None, 0.95)
    assert " 71.17 ± 1.04 (n=3) * " in terminal(table)
    assert "| **71.17 ± 1.04 (n=3)** |" in markdown(table)
    assert r" & \textbf{71.17 $\pm$ 1.04 (n=3)} & " in latex(table)
    lines = list(csv.DictReader(comma_separated(table).splitlines()))
    assert [line["best"] for line in lines] == ["0", "0", "1"]
    assert "Marked as best" in terminal(table)


def test_zero_shot_rows_of_table_1(records):
    scores = {"zero_shot.imagenet_a.top1": 0.01, "zero_shot.imagenet_r.top1": 0.3, "zero_shot.imagenet_o.aupr": 0.17}
    imagenet = [changed(run, figures=scores, dataset__name="imagenet") for run in records]
    table = paper_table("table1", [*records, *imagenet], None, 0.95)
    titles = ["test, last", "ImageNet-A", "ImageNet-R", "ImageNet-O, AUPR"]
    assert [row.labels[3] for row in table.rows] == [*titles, "test, last"]  # the paper's data sets first
    assert table.rows[3].cells[0].summary.mean == pytest.approx(0.17)
    lacking = [run if run.seed else replace(run, figures={"test_top1": 0.5}) for run in imagenet]
    cell = paper_table("table1", lacking, None, 0.95).rows[1].cells[0]
    assert cell.summary.n == 2
    without = [
        run.run for run in lacking if not run.seed and run.augmentation != "random_erasing"
    ]  # which lacks a seed
    loop = f"for run in {' '.join(without)}; do python -m reldrop.evaluate run=$run suite=zero_shot; done"
    assert cell.command == loop
    one = [lacking[0], *imagenet[1:]]
    command = paper_table("table1", one, None, 0.95).rows[1].cells[0].command
    assert command == f"python -m reldrop.evaluate run={lacking[0].run} suite=zero_shot"


def test_table_2(records):
    points = {"dataset__points": 1024, "dataset__name": "modelnet40", "backbone__name": "pointnet2_msg"}
    names = {"random_erasing": "random_point_dropout", "reldrop_block": "reldrop_point", "none": "none"}
    clouds = [changed(run, **points, augmentation__name=names[run.augmentation]) for run in records]
    table = paper_table("table2", [*records, *clouds], None, 0.95)
    assert table.columns == ["none", "random point dropout", "RelDrop-point"]
    assert [row.labels for row in table.rows] == [
        ["digits_resnet", "modelnet40", "pointnet2_msg", "test, last"],
        ["digits_resnet", "modelnet40", "pointnet2_msg", "class mean, last"],
    ]
    assert [cell.summary.n for cell in table.rows[0].cells] == [3, 2, 3]
    assert (
        table.rows[0].cells[1].command.startswith("python -m reldrop.train augmentation=random_erasing ")
    )  # as it was started


def test_a_paper_table_is_of_its_own_experiments(records):
    named = [changed(run, name=f"table1_digits{end}") for run in records for end in ("", "_smoke")]
    ablation = [changed(run, name="ablation_k", trainer__epochs=9) for run in records]
    table = paper_table("table1", [*records, *named, *ablation], None, 0.95)
    assert [row.labels[0] for row in table.rows] == ["table1_digits", "table1_digits_smoke"]
    assert "Not shown: the experiments ablation_k, digits_resnet (where=name=NAME shows one)." in table.notes
    assert any("smoke" in note for note in table.notes)
    assert any("smoke" in note for note in ablation_table(named, [Score("test_top1")], 0.95).notes)
    assert not ablation_table(records, [Score("test_top1")], 0.95).notes
    table = paper_table("table1", [*records, *ablation], None, 0.95)
    assert [row.labels[0] for row in table.rows] == ["digits_resnet"]
    patch = [changed(run, augmentation__name="reldrop_patch") for run in arm(records, "reldrop_block")]
    table = paper_table("table1", [*records, *patch], None, 0.95, ["reldrop_patch", "reldrop_block"])
    assert table.columns == ["none", "random erasing", "RelDrop-patch", "RelDrop-block"]
    assert [cell.summary.n for cell in table.cells] == [3, 2, 3, 3]


def test_an_ablation_shows_what_differs(records):
    block = arm(records, "reldrop_block")
    settings = ({"augmentation__k": 5}, {"augmentation__k": 10, "augmentation__area": [0.02, 0.1]})
    others = [changed(run, **changes) for run in block for changes in settings]
    table = ablation_table([*arm(records, "none"), *block, *others], [TOP1], 0.95)
    assert table.labels == ["augmentation", "augmentation.k", "augmentation.area", "seeds"]
    assert [row.labels for row in table.rows] == [
        ["none", "-", "-", "3"],
        ["reldrop_block", "1", "[0.02,0.4]", "3"],
        ["reldrop_block", "5", "[0.02,0.4]", "3"],
        ["reldrop_block", "10", "[0.02,0.1]", "3"],
    ]
    assert all("none" in row.cells[0].comparisons for row in table.rows[1:])
    kinds = [changed(run, attribution___target_="reldrop.attribution.Random") for run in block]
    table = ablation_table([*block, *kinds], [TOP1], 0.95)
    assert [row.labels[0] for row in table.rows] == ["GradientLRP", "Random"]


def test_units_and_directions():
    assert Score("zero_shot.imagenet_o.fpr95").sign == Score("generalisation_gap").sign == -1
    assert Score("evaluation.clean.top1").sign == 1
    assert Score("train_loss").shown(1.23456) == "1.235"
    assert Score("test_top1").shown(0.12345) == "12.35"
    assert Score("steps").file == "summary"
    assert Score("evaluation.blocks.relevant.0.1").shown(0.5) == "50.00"
    assert Score("evaluation.spread.effective_features").shown(123.4) == "123.4"


# ---- commands that fill cells ---------------------------------------------------------------------------------------


def composed(command):
    """Return the record that the run of a command would have."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "reldrop.train"]
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", words[3:])
    return Record.of("new", OmegaConf.to_container(cfg, resolve=True), figures={})


def has_settings_of(record, other):
    """Whether a record has all settings of another one, which may be of an older version that had fewer."""
    return other.settings == {key: record.settings[key] for key in other.settings}


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


# ---- selecting, published values, provenance ------------------------------------------------------------------------


def test_where(records):
    def chosen(*where):
        return [(run.augmentation, run.seed) for run in select(records, where)]

    assert chosen("seed=1", "augmentation.name=r*") == [("random_erasing", 1), ("reldrop_block", 1)]
    assert len(chosen("augmentation.area=[0.02,0.4]")) == 8  # none has no area and stays
    assert chosen("seed!=0,2") == [("none", 1), ("random_erasing", 1), ("reldrop_block", 1)]
    assert len(chosen(f"setting={records[0].setting}")) == 3
    with pytest.raises(ReldropError, match=r"no run has a setting augmentation\.kk; did you mean augmentation\.k\?"):
        chosen("augmentation.kk=1")
    with pytest.raises(ReldropError, match=r"where=augmentation\.k=2 leaves no run; there are 1"):
        chosen("augmentation.k=2")
    with pytest.raises(ReldropError, match="not of the form"):
        chosen("seed")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("digit,resnet_tiny,none,test_top1,90,x", "line 2: dataset digit is not known; did you mean digits"),
        (
            "digits,resnet_tiny,nothing_at_all,test_top1,90,x",
            "augmentation nothing_at_all is not known; known are none",
        ),
        ("digits,resnet_tiny,none,top_two,90,x", "metric top_two is not known"),
        ("digits,resnet_tiny,none,test_top1,ninety,x", "line 2: value 'ninety' is no number"),
        ("digits,resnet_tiny,none,test_top1", "line 2: it does not have 6 values"),
        (
            "digits,resnet_tiny,none,test_top1,90,x\ndigits,resnet_tiny,none,test_top1,91,y",
            "line 3: the same cell as in line 2",
        ),
    ],
)
def test_reference_files_that_are_wrong(tmp_path, monkeypatch, line, message):
    file = tmp_path / "reference.csv"
    file.write_text(f"{','.join(COLUMNS)}\n{line}\n")
    assert message in fails(monkeypatch, RUNS, "paper=table1", f"reference={file}")


def test_reference_files_of_another_form(tmp_path, monkeypatch):
    file = tmp_path / "reference.csv"
    file.write_text("dataset,value\n")
    assert "they must be dataset,backbone" in fails(monkeypatch, RUNS, f"reference={file}")
    assert "cannot be read" in fails(monkeypatch, RUNS, f"reference={tmp_path / 'nothing.csv'}")
    example = Path(__file__).parents[1] / "results" / "reference_example.csv"
    assert example.read_text() == ",".join(COLUMNS) + "\n"


def test_published_values_beside_ours(tmp_path, capsys, monkeypatch):
    file = tmp_path / "reference.csv"
    file.write_text(
        f"{','.join(COLUMNS)}\ndigits,resnet_tiny,none,test_top1,12.5,a book\ncifar10,resnet18,none,test_top1,1.5,\n"
    )
    out = run(capsys, monkeypatch, RUNS, "format=csv", "paper=table1", f"reference={file}").out
    line = next(csv.DictReader(out.splitlines()))
    assert float(line["published"]) == 12.5
    assert float(line["minus_published"]) == pytest.approx(float(line["mean"]) - 12.5, abs=1e-3)
    out = run(capsys, monkeypatch, RUNS, "paper=table1", f"reference={file}").out
    assert "(published 12.50, +" in out or "(published 12.50, -" in out
    assert "Published values: a book." in out
    assert "Published, but not in this table: cifar10 resnet18 none test_top1." in out


def test_provenance_lies_beside_a_table(tmp_path, capsys, monkeypatch, records):
    output = tmp_path / "new" / "table.md"
    run(capsys, monkeypatch, RUNS, "paper=table1", "where=seed!=2", f"output={output}")
    content = json.loads((tmp_path / "new" / "table.md.runs.json").read_text())
    used = [record for record in records if record.seed != 2]
    assert [entry["run"] for entry in content["runs"]] == [record.run for record in used]
    assert [entry["config_hash"] for entry in content["runs"]] == [record.config_hash for record in used]
    starts = {(start["commit"], start["dirty"]) for record in used for start in record.starts}
    assert {(code["commit"], code["dirty"]) for code in content["code"]} == starts
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit, _ in starts)


def test_every_table_into_a_folder(tmp_path, capsys, monkeypatch, results):
    for folder in list(results.glob("runs/digits_resnet/*/seed0*")):
        twin = results / "runs" / "ablation_k" / folder.parent.name / folder.name
        shutil.copytree(folder, twin)
        config = OmegaConf.load(twin / "config.yaml")
        config.name = "ablation_k"
        OmegaConf.save(config, twin / "config.yaml")
    output = tmp_path / "all"
    run(capsys, monkeypatch, results, f"output={output}")
    names = {file.name for file in output.iterdir() if not file.name.endswith(".runs.json")}
    assert names == {
        f"{name}.{end}" for name in ("runs", "table1", "ablation_k") for end in ("txt", "md", "tex", "csv")
    }
    file = next(results.glob("runs/digits_resnet/none/seed1*/config.yaml"))
    file.write_text(file.read_text().replace("batch_size: 128", "batch_size: 64"))
    shutil.rmtree(output)
    message = fails(monkeypatch, results, f"output={output}", "format=csv")
    assert message.startswith(
        "error: table1: the runs of digits_resnet digits resnet_tiny none differ in more than the seed: "
    )
    assert {file.name for file in output.glob("*.csv")} == {"runs.csv", "ablation_k.csv"}  # the others are there


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["papr=table1"], "papr is not a setting; did you mean paper?"),
        (["paper=table3"], "paper=table3 is not known; choose table1, table2, ablation"),
        (["format=html"], "choose terminal, markdown, latex, csv"),
        (["metric=test_top"], "metric=test_top is a figure of no run; did you mean test_top5?"),
        (["confidence=95"], "must be between 0 and 1"),
        (["reldrop=reldrop_patch"], "goes with paper=table1 or paper=table2"),
        (["better=lower"], "goes with metric=NAME"),
        (["paper=table2"], "of which there are no finished runs (there are digits none"),
        (["output=table.doc"], "the suffix tells no format"),
        (["source=mlflow:a/b"], "may be wandb:ENTITY/PROJECT"),
        (["results=elsewhere"], "results is given twice"),
    ],
)
def test_mistakes_on_the_command_line(monkeypatch, words, message):
    assert message in fails(monkeypatch, RUNS, *words)


def test_a_folder_without_runs(tmp_path, monkeypatch):
    assert "no finished runs under" in fails(monkeypatch, tmp_path)
    assert "no runs under" in fails(monkeypatch, "status", tmp_path)


# ---- status ---------------------------------------------------------------------------------------------------------


def test_status(capsys, monkeypatch, results):
    cfg = OmegaConf.load(next(results.glob("runs/*/none/seed0*/config.yaml")))
    cfg.results_dir = str(results)
    folders = {}
    for seed, name in enumerate(("running", "failed", "interrupted"), start=5):
        cfg.seed = seed
        folders[name] = run_folder(cfg)
        with Run(cfg) as started:
            started.log({"epoch": 1, "step": 7})
            started.log({"epoch": 2, "step": 14})
            if name == "failed":
                started.fail(RuntimeError("no more memory"))
            if name == "running":
                held = status_of(started.folder)
    assert (held.state, held.progress) == ("running", "epoch 2 of 5")
    with (folders["interrupted"] / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "st')  # cut off
    (results / "runs" / "digits_resnet" / "none" / "seed9-00000000").mkdir()
    finished = next(results.glob("runs/*/reldrop_block/seed0*"))
    assert status_of(folders["running"]).state == "interrupted"  # nobody holds it any more
    lines = run(capsys, monkeypatch, "status", results).out.splitlines()
    assert lines[-1] == "12 runs: 8 finished, 2 interrupted, 1 failed, 1 unreadable"
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
    assert status_of(folder).progress == "step 35 of 100"


def test_looking_at_a_run_does_not_keep_it_from_starting(results):
    cfg = OmegaConf.load(next(results.glob("runs/*/none/seed0*/config.yaml")))
    cfg.results_dir, cfg.seed = str(results), 5
    with Run(cfg) as first:
        assert is_held(first.folder)
    assert not is_held(first.folder)
    with (first.folder / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with Run(cfg) as second:
            assert second.folder == first.folder


# ---- Weights & Biases -----------------------------------------------------------------------------------------------


class FakeApi:
    """Answers as the public API of wandb does, with what a project of the fixture's runs holds."""

    def runs(self, path):
        if path != "lab/reldrop":
            raise ValueError("Could not find project nothing")
        for answer in json.loads((FIXTURES / "wandb_runs.json").read_text()):
            history = answer.pop("history")
            yield SimpleNamespace(**answer, scan_history=lambda history=history: iter(history))


@pytest.fixture
def wandb(monkeypatch):
    module = SimpleNamespace(Api=FakeApi)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_runs_of_wandb_are_those_of_the_folders(records, wandb):
    from reldrop.reporting.wandb_runs import read_wandb

    theirs, remarks = read_wandb("lab/reldrop")
    assert remarks == ["https://wandb.ai/lab/reldrop/runs/0000000a is not finished and left out"]
    ours = [run for run in records if run.augmentation != "random_erasing"]
    assert [run.settings for run in theirs] == [run.settings for run in ours]
    assert [run.config_hash for run in theirs] == [run.config_hash for run in ours]
    samples = ("train_samples", "test_samples")  # which W&B does not know
    for run, own in zip(theirs, ours, strict=True):
        assert run.figures == {key: value for key, value in own.figures.items() if key not in samples}
        assert run.starts[0]["commit"] == own.starts[0]["commit"]
    assert has_settings_of(composed(command_like(theirs[0], [4], "none")), ours[0])


def test_a_table_from_wandb(capsys, monkeypatch, wandb):
    out, err = run(capsys, monkeypatch, "source=wandb:lab/reldrop", "paper=table1")
    ours = run(capsys, monkeypatch, RUNS, "paper=table1", "where=augmentation.name!=random_erasing").out
    figures = re.compile(r"\d\d\.\d\d ± \d\.\d\d")
    assert figures.findall(out) == figures.findall(ours) != []
    assert "0000000a is not finished" in err


def test_wandb_that_cannot_be_read(monkeypatch, wandb):
    assert "Could not find project" in fails(monkeypatch, "source=wandb:lab/nothing")
    assert "must be source=wandb:ENTITY/PROJECT" in fails(monkeypatch, "source=wandb:reldrop")

    def no_login():
        raise RuntimeError("No API key configured")

    wandb.Api = no_login
    assert "No API key configured); check `wandb login`" in fails(monkeypatch, "source=wandb:lab/reldrop")
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "pip install wandb" in fails(monkeypatch, "source=wandb:lab/reldrop")
