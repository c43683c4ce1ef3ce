"""The zero-shot suite: metrics against hand-worked arrays and plain transcriptions, classes, and the entry point."""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor
from torchvision import transforms

from reldrop import metrics
from reldrop.backbones import resnet
from reldrop.data.folders import Files
from reldrop.errors import ReldropError
from reldrop.evaluate import evaluate
from reldrop.metrics import image_sets, preprocessing
from reldrop.train import CONFIG_PATH

SAMPLE = Path(__file__).parents[1] / "data"


# ---- metrics ----------------------------------------------------------------------------------------------------------


def test_restricted_accuracy_by_hand() -> None:
    logits = torch.tensor([[9.0, 1.0, 0.0, 2.0], [9.0, 1.0, 5.0, 2.0], [0.0, 3.0, 8.0, 3.0]])
    labels, classes = torch.tensor([1, 3, 3]), torch.tensor([1, 3])
    assert metrics.ranks(logits, labels).tolist() == [2, 2, 2]  # class 0 or 2 wins; in the last row 1 comes before 3
    inside, places = metrics.restrict(logits, labels, classes)
    assert inside.tolist() == [[1, 2], [1, 2], [3, 3]]
    assert places.tolist() == [0, 1, 1]
    ranks = metrics.ranks(inside, places)
    assert ranks.tolist() == [1, 0, 1]  # a tie goes to the first class
    assert metrics.top_k(ranks, 1) == pytest.approx(1 / 3)
    assert metrics.top_k(ranks, 2) == 1
    expected = [math.exp(2) / (math.exp(1) + math.exp(2))] * 2 + [0.5]
    assert metrics.confidences(inside).tolist() == pytest.approx(expected, abs=1e-15)


def test_a_label_outside_the_classes_and_values_that_are_not_finite() -> None:
    with pytest.raises(ReldropError, match="class 2 is none of the 2 classes"):
        metrics.restrict(torch.zeros(1, 4), torch.tensor([2]), torch.tensor([1, 3]))
    for measure in (metrics.confidences, lambda logits: metrics.ranks(logits, torch.tensor([0]))):
        with pytest.raises(ReldropError, match="not finite"):
            measure(torch.tensor([[math.nan, 1.0]]))


def test_rms_calibration_error_by_hand() -> None:
    confidence = torch.tensor([0.9, 0.2, 0.7, 0.3, 0.8], dtype=torch.float64)
    correct = torch.tensor([True, False, False, True, True])
    # bins of two, the fifth sample belongs to the last: {0.2, 0.3} with accuracy 1/2, {0.7, 0.8, 0.9} with 2/3
    first, last = 2 / 5 * (0.25 - 0.5) ** 2, 3 / 5 * (0.8 - 2 / 3) ** 2
    assert metrics.rms_calibration_error(confidence, correct, 2) == pytest.approx(math.sqrt(first + last), abs=1e-15)
    skipping = metrics.rms_calibration_error(confidence, correct, 2, skip_last_bin=True)
    assert skipping == pytest.approx(math.sqrt(first), abs=1e-15)
    # fewer than a bin are one bin, of which that script has nothing to say
    assert metrics.rms_calibration_error(confidence, correct) == pytest.approx(abs(0.58 - 0.6), abs=1e-15)
    assert math.isnan(metrics.rms_calibration_error(confidence, correct, skip_last_bin=True))
    assert math.isnan(metrics.rms_calibration_error(confidence[:0], correct[:0]))


def test_aurra_by_hand() -> None:
    confidence = torch.tensor([0.2, 0.9, 0.5, 0.7])
    correct = torch.tensor([True, True, True, False])
    assert metrics.aurra(confidence, correct) == pytest.approx((1 + 1 / 2 + 2 / 3 + 3 / 4) / 4, abs=1e-15)
    assert math.isnan(metrics.aurra(confidence[:0], correct[:0]))


def test_aurra_of_equal_confidences_is_the_mean_over_their_orders() -> None:
    confidence = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.1])
    correct = torch.tensor([False, True, True, False, True])
    areas = []
    for order in itertools.permutations([1, 2, 3]):
        answered = correct[[0, *order, 4]].double()
        areas.append((answered.cumsum(0) / torch.arange(1, 6)).mean().item())
    assert metrics.aurra(confidence, correct) == pytest.approx(np.mean(areas), abs=1e-15)


def test_detection_by_hand() -> None:
    unknown, known = torch.tensor([0.9, 0.6, 0.5]), torch.tensor([0.7, 0.5, 0.1, 0.2])
    found = metrics.detection(unknown, known)
    # from the top: 0.9 +, 0.7 -, 0.6 +, then 0.5 + and 0.5 - together
    assert found["aupr"] == pytest.approx(1 / 3 * (1 + 2 / 3 + 3 / 5), abs=1e-15)
    assert found["auroc"] == pytest.approx((4 + 3 + 2.5) / 12, abs=1e-15)
    assert found["fpr95"] == 0.5
    same = metrics.detection(torch.zeros(2), torch.zeros(10))
    assert same == pytest.approx({"aupr": 1 / 6, "auroc": 0.5, "fpr95": 1.0}, abs=1e-15)


def test_fpr_is_taken_where_recall_reaches_95_percent() -> None:
    unknown = torch.arange(100, 0, -1.0)
    known = torch.tensor([5.5, 6.5, 200.0, -1.0])
    assert metrics.detection(unknown, known)["fpr95"] == 0.5  # 95 of 100 score 6 or more
    assert metrics.detection(unknown[:19], known + 76)["fpr95"] == 0.5  # of 19, all: 18 are 94.7 %
    assert metrics.detection(unknown, unknown)["fpr95"] == 0.95  # also amid a straight piece of the curve


def reference(logits: np.ndarray, labels: np.ndarray, classes: list[int]) -> dict[str, float]:
    """The definitions, sample by sample."""
    confidence, rank = [], []
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        values = [row[index] for index in classes]
        largest = max(values)
        odds = [math.exp(value - largest) for value in values]
        confidence.append(max(odds) / sum(odds))
        ordered = sorted(range(len(classes)), key=lambda place: (-values[place], place))
        rank.append(ordered.index(classes.index(label)))
    correct = np.array(rank) == 0
    share = [np.mean([hit for hit, other in zip(correct, confidence, strict=True) if other == c]) for c in confidence]
    ordered = sorted(zip(confidence, share, strict=True))
    starts = range(0, max(len(ordered) // 100, 1) * 100, 100)
    bins = [ordered[start : start + 100 if start != starts[-1] else None] for start in starts]
    squares = [len(b) / len(ordered) * (np.mean([c for c, _ in b]) - np.mean([s for _, s in b])) ** 2 for b in bins]
    best_first = [s for _, s in ordered[::-1]]
    return {
        "images": len(rank),
        "top1": np.mean(correct),
        "top5": np.mean(np.array(rank) < 5),
        "rms_calibration_error": math.sqrt(sum(squares)),
        "rms_calibration_error_public_script": math.sqrt(sum(squares[:-1])),
        "aurra": np.mean([np.mean(best_first[:k]) for k in range(1, len(best_first) + 1)]),
    }


def reference_detection(unknown: list[float], known: list[float]) -> dict[str, float]:
    aupr, recalled, fpr95 = 0.0, 0.0, None
    for threshold in sorted({*unknown, *known}, reverse=True):
        true, false = sum(s >= threshold for s in unknown), sum(s >= threshold for s in known)
        recall = true / len(unknown)
        aupr, recalled = aupr + true / (true + false) * (recall - recalled), recall
        if fpr95 is None and recall >= 0.95:
            fpr95 = false / len(known)
    pairs = [(u > k) + 0.5 * (u == k) for u in unknown for k in known]
    return {"aupr": aupr, "auroc": np.mean(pairs), "fpr95": fpr95}


class Stored:
    """A network that has been run: its logits of 1,000 classes for each file, in batches."""

    def __init__(self, logits: dict[str, Tensor], batch_size: int) -> None:
        self.logits, self.batch_size = logits, batch_size

    def __call__(self, files: Files, title: str) -> Iterator[tuple[Tensor, Tensor]]:
        name = {title: name for name, title in metrics.zero_shot.TITLES.items()}[title]
        yield from zip(self.logits[name].split(self.batch_size), files.labels.split(self.batch_size), strict=True)


@pytest.fixture
def stored() -> tuple[dict[str, Files], dict[str, Tensor]]:
    """Random sets; values are rounded, so that many logits are equal, and repeated, so that many confidences are."""
    draws = torch.Generator().manual_seed(0)
    sets, logits = {}, {}
    for name, count in (("imagenet_a", 350), ("imagenet_r", 290), ("imagenet_o", 120), ("imagenet_val", 700)):
        classes = metrics.class_indices(name) if name in metrics.SETS else torch.arange(1000)
        labels = classes[torch.randint(len(classes), (count,), generator=draws)]
        values = (2 * torch.randn(count, 1000, generator=draws)).round()
        values[torch.arange(count), labels] += 5
        values[count // 2 :] = values[: count - count // 2]
        sets[name], logits[name] = Files([f"{index}.png" for index in range(count)], labels), values
    return sets, logits


SUITE = metrics.ZeroShot("imagenet-a", "imagenet-r", "imagenet-o", ["imagenet/val"])


def test_the_suite_is_a_transcription_of_the_definitions(stored: Any) -> None:
    sets, logits = stored
    results = SUITE.measure(sets, Stored(logits, 64))
    labels = {name: files.labels.numpy() for name, files in sets.items()}
    values = {name: value.numpy() for name, value in logits.items()}
    classes = {name: metrics.class_indices(name).tolist() for name in metrics.SETS} | {"imagenet_val": [*range(1000)]}
    difference = results["imagenet_r"].pop("difference")
    clean = results["imagenet_r"].pop("val_top1")
    for name in ("imagenet_a", "imagenet_r", "imagenet_val"):
        assert results[name] == pytest.approx(reference(values[name], labels[name], classes[name]), abs=1e-12)
        assert len(set(metrics.confidences(logits[name]).tolist())) < len(sets[name])  # there are ties
    inside = np.isin(labels["imagenet_val"], classes["imagenet_r"])
    expected = reference(values["imagenet_val"][inside], labels["imagenet_val"][inside], classes["imagenet_r"])["top1"]
    assert clean == pytest.approx(expected, abs=1e-12)
    assert difference == pytest.approx(expected - results["imagenet_r"]["top1"], abs=1e-12)

    def scores(name: str) -> list[float]:
        kept = values[name][np.isin(labels[name], classes["imagenet_o"])][:, classes["imagenet_o"]]
        return (-np.max(np.exp(kept.astype(float)) / np.exp(kept.astype(float)).sum(1, keepdims=True), 1)).tolist()

    found = dict(results["imagenet_o"])
    assert found.pop("images") == 120
    assert found.pop("val_images") == np.isin(labels["imagenet_val"], classes["imagenet_o"]).sum()
    # Rounded, for the two ways to a softmax must agree on what is equal.
    rounded = [np.round(scores(name), 12).tolist() for name in ("imagenet_o", "imagenet_val")]
    assert found == pytest.approx(reference_detection(*rounded), abs=1e-9)


def test_figures_do_not_depend_on_the_batch_size_or_the_order(stored: Any) -> None:
    sets, logits = stored
    whole = SUITE.measure(sets, Stored(logits, 1000))
    for size in (1, 7, 100):
        assert SUITE.measure(sets, Stored(logits, size)) == whole
    orders = {
        name: torch.randperm(len(files), generator=torch.Generator().manual_seed(1)) for name, files in sets.items()
    }
    shuffled = {name: Files(files.paths, files.labels[orders[name]]) for name, files in sets.items()}
    other = SUITE.measure(shuffled, Stored({name: value[orders[name]] for name, value in logits.items()}, 50))
    for name, figures in whole.items():
        assert other[name] == pytest.approx(figures, abs=1e-12)


def test_sets_that_need_val_images_say_nothing_without_them(stored: Any) -> None:
    sets, logits = stored
    results = SUITE.measure({name: sets[name] for name in ("imagenet_r", "imagenet_o")}, Stored(logits, 64))
    assert set(results) == {"imagenet_r"}
    assert "difference" not in results["imagenet_r"]
    assert "ImageNet-O" not in SUITE.table(results)


# ---- classes and images -----------------------------------------------------------------------------------------------


def test_class_lists() -> None:
    assert len(set(metrics.synsets())) == 1000
    assert list(metrics.synsets()) == sorted(metrics.synsets())
    a, r, o = (set(metrics.class_indices(name).tolist()) for name in ("imagenet_a", "imagenet_r", "imagenet_o"))
    assert (len(a), len(r), len(o)) == (200, 200, 200)
    assert (len(a & o), len(a & r), len(r & o)) == (59, 86, 36)
    for name in ("imagenet_a", "imagenet_r"):  # the indices that timm ships beside the names
        listed = (Path(timm.data.__file__).parent / "_info" / f"{name}_indices.txt").read_text().split()
        assert metrics.class_indices(name).tolist() == [int(index) for index in listed]


def picture(label: int) -> Image.Image:
    draws = np.random.default_rng(label)
    return Image.fromarray(draws.integers(256, size=(40 + label % 7, 50, 3), dtype=np.uint8))


def write_images(folder: Path, wnids: tuple[str, ...], count: int = 2) -> None:
    for index, wnid in enumerate(wnids):
        (folder / wnid).mkdir(parents=True)
        for number in range(count):
            picture(index * 10 + number).save(folder / wnid / f"{number}.png")


def write_sets(root: Path, classes: int = 3) -> None:
    for name in metrics.SETS:
        write_images(root / name.replace("_", "-"), metrics.class_wnids(name)[:classes])
    shared = {*metrics.class_wnids("imagenet_r"), *metrics.class_wnids("imagenet_o")}
    write_images(root / "imagenet" / "val", tuple(sorted(shared)[:classes]), 1)


def test_images_are_labelled_by_the_1000_classes(tmp_path: Path) -> None:
    write_sets(tmp_path)
    sets, missing = SUITE.find(tmp_path)
    assert missing == []
    assert {name: len(files) for name, files in sets.items()} == {
        **dict.fromkeys(metrics.SETS, 6),
        "imagenet_val": 3,
    }
    for files in sets.values():
        assert [metrics.synsets()[label] for label in files.labels] == [Path(path).parent.name for path in files.paths]
    limited, _ = SUITE.find(tmp_path, limit=3)
    assert sorted(limited["imagenet_a"].labels.tolist()) == metrics.class_indices("imagenet_a")[:3].tolist()


def test_val_images_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet" / "val"
    folder.mkdir(parents=True)
    for number in range(3):
        picture(number).save(folder / f"ILSVRC2012_val_0000000{number + 1}.png")
    with pytest.raises(ReldropError, match="no class folders, and no file of labels"):
        SUITE.find(tmp_path)
    labels = folder.parent / "imagenet_2012_validation_synset_labels.txt"
    labels.write_text("n01443537\nn01440764\nn15075141\n")
    assert SUITE.find(tmp_path)[0]["imagenet_val"].labels.tolist() == [1, 0, 999]
    labels.write_text("n01443537\nn01440764\nn00000000\n")
    with pytest.raises(ReldropError, match="n00000000, which is none of the 1,000"):
        SUITE.find(tmp_path)


def test_images_that_are_missing_or_do_not_belong(tmp_path: Path) -> None:
    with pytest.raises(ReldropError, match="none of imagenet_a"):
        SUITE.find(tmp_path)
    write_images(tmp_path / "imagenet-a", metrics.class_wnids("imagenet_a")[:2])
    assert SUITE.find(tmp_path)[1] == ["imagenet_r", "imagenet_o", "imagenet_val"]
    stranger = next(wnid for wnid in metrics.synsets() if wnid not in metrics.class_wnids("imagenet_a"))
    write_images(tmp_path / "imagenet-a", (stranger,))
    with pytest.raises(ReldropError, match=f"{stranger} is none of the 200 classes of ImageNet-A"):
        image_sets.find_set(tmp_path / "imagenet-a", "imagenet_a")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet18.tv_in1k", {}),
        ("resnet50.tv2_in1k", {}),
        ("resnet18.a1_in1k", {}),
        ("resnet18", {"crop_mode": "squash", "crop_pct": 0.9}),
    ],
)
def test_own_preprocessing_is_that_of_timm(name: str, changes: dict[str, Any]) -> None:
    network = timm.create_model(name, pretrained_cfg_overlay=changes)
    own = preprocessing.of_timm(network, name)
    theirs = create_transform(**resolve_model_data_config(network, use_test_size=True), is_training=False)
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(301, 420, 3), dtype=np.uint8))
    seen = torch.from_numpy(np.asarray(own.frame(image, own.size)).transpose(2, 0, 1).copy())
    torch.testing.assert_close(own.normalise(seen[None])[0], theirs(image), rtol=0, atol=1e-6)


def test_standard_preprocessing_is_that_of_the_public_script() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = preprocessing.standard(mean, std)
    theirs = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(333, 250, 3), dtype=np.uint8))
    seen = torch.from_numpy(np.asarray(ours.frame(image, ours.size)).transpose(2, 0, 1).copy())
    torch.testing.assert_close(ours.normalise(seen[None])[0], theirs(image), rtol=0, atol=1e-6)


def test_preprocessing_that_is_not_supported() -> None:
    network = timm.create_model("resnet18", pretrained_cfg_overlay={"crop_mode": "border"})
    with pytest.raises(ReldropError, match="crop_mode=border"):
        preprocessing.of_timm(network, "resnet18")


# ---- the entry point --------------------------------------------------------------------------------------------------


def config(tmp_path: Path, *overrides: str) -> DictConfig:
    common = [f"results_dir={tmp_path / 'results'}", f"data_dir={tmp_path / 'data'}"]
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        return compose(
            "evaluate", [*common, "suite=zero_shot", "batch_size=4", "workers=0", "accelerator=cpu", *overrides]
        )


def make_run(tmp_path: Path, *overrides: str, outputs: int = 1000) -> Path:
    """A folder as training leaves it, of a small network."""
    chosen = ["dataset=imagenet", "dataset.size=48", "dataset.eval_resize=56", "augmentation=none", *overrides]
    with initialize_config_dir(CONFIG_PATH, version_base="1.3"):
        cfg = compose("train", ["+experiment=imagenet_resnet", "backbone=resnet_tiny", *chosen])
    folder = tmp_path / "results" / "runs" / "imagenet_resnet" / "none" / "seed0-12345678"
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    torch.manual_seed(0)
    network = resnet("resnet_tiny", num_classes=outputs, size=48)
    for name in ("last.pt", "best.pt"):
        torch.save({"model": network.state_dict(), "epoch": 3}, folder / name)
    return folder


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sets(tmp_path / "data")
    folder = make_run(tmp_path)
    results = evaluate(config(tmp_path, f"run={folder}", "preprocessing=own"))
    written = json.loads((folder / "zero_shot.json").read_text())
    assert written.keys() == results.keys()
    assert written["missing"] == []
    assert {name: written[name]["images"] for name in metrics.zero_shot.TITLES} == {
        **dict.fromkeys(metrics.SETS, 6),
        "imagenet_val": 3,
    }
    assert not list(folder.glob(".*.tmp"))
    table = capsys.readouterr().out
    assert all(title in table for title in metrics.zero_shot.TITLES.values())
    assert "resize 56, centre crop 48, bilinear" in written["preprocessing"]
    assert str(tmp_path) not in (folder / "zero_shot.json").read_text()

    # the same by hand, for one set
    network = resnet("resnet_tiny", num_classes=1000, size=48)
    network.load_state_dict(torch.load(folder / "last.pt")["model"])
    network.eval()
    seen = transforms.Compose(
        [
            transforms.Resize(56),
            transforms.CenterCrop(48),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    files = SUITE.find(tmp_path / "data")[0]["imagenet_a"]
    with torch.inference_mode():
        logits = network(torch.stack([seen(Image.open(path)) for path in files.paths]))
    inside, labels = metrics.restrict(logits, files.labels, metrics.class_indices("imagenet_a"))
    correct = inside.argmax(1) == labels
    assert written["imagenet_a"]["top1"] == pytest.approx(correct.double().mean().item())
    error = (inside.double().softmax(1).amax(1).mean() - correct.double().mean()).abs().item()
    assert written["imagenet_a"]["rms_calibration_error"] == pytest.approx(error, abs=1e-6)

    again = evaluate(
        config(tmp_path, f"run={folder}", "preprocessing=own", "batch_size=5", "workers=1", "checkpoint=best")
    )
    for name in metrics.zero_shot.TITLES:
        assert again[name] == pytest.approx(results[name], abs=1e-5, nan_ok=True)


def test_a_network_of_timm_in_low_precision(tmp_path: Path) -> None:
    write_sets(tmp_path / "data", 2)
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pt")
    output = tmp_path / "new" / "out.json"
    overrides = ["model=resnet10t", f"weights={tmp_path / 'weights.pt'}", "preprocessing=own", "precision=bf16-mixed"]
    results = evaluate(config(tmp_path, *overrides, "limit=2", f"output={output}"))
    assert results["imagenet_a"]["images"] == 2
    assert json.loads(output.read_text())["limit"] == 2
    assert results["subject"] == "resnet10t, weights of weights.pt"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "name what to evaluate"),
        (["run=somewhere", "model=resnet18"], "not both"),
        (["run=somewhere"], "run=somewhere leads to no folder"),
        (["run=somewhere", "weights=w.pt"], "goes with model=NAME"),
        (["run=somewhere", "checkpoint=first"], "checkpoint='first' must be 'last' or 'best'"),
        (["run=somewhere", "preprocessing=none"], "preprocessing='none' must be 'standard' or 'own'"),
        (["run=somewhere", "limit=0"], "limit=0 must be at least 1 or null"),
        (["run=somewhere", "batch_size=null"], "batch_size=null must be a whole number"),
        (["run=somewhere", "+weight=w.pt"], "did you mean weights"),
        (["model=resnet-18"], "did you mean resnet"),
        (["model=resnet18", "weights=nowhere.pt"], "weights=nowhere.pt does not exist"),
    ],
)
def test_mistakes(tmp_path: Path, overrides: list[str], message: str) -> None:
    write_images(tmp_path / "data" / "imagenet-a", metrics.class_wnids("imagenet_a")[:1])
    with pytest.raises(ReldropError, match=message):
        evaluate(config(tmp_path, *overrides))


def test_runs_that_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "imagenet-a", metrics.class_wnids("imagenet_a")[:1])

    def refused(message: str, *overrides: str, outputs: int = 1000) -> None:
        folder = make_run(tmp_path, *overrides, outputs=outputs)
        with pytest.raises(ReldropError, match=message):
            evaluate(config(tmp_path, f"run={folder}"))

    refused("of a network for 100 classes, the data have 1000", outputs=100)
    refused("is a run on imagenet; this suite takes networks for the 1,000", "dataset.classes=[n01440764,n01443537]")
    folder = make_run(tmp_path)
    digits = OmegaConf.load(folder / "config.yaml")
    digits.dataset = {"_target_": "reldrop.data.digits", "name": "digits"}
    OmegaConf.save(digits, folder / "config.yaml")
    with pytest.raises(ReldropError, match="is a run on digits"):
        evaluate(config(tmp_path, f"run={folder}"))
    folder = make_run(tmp_path)
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:1000])
    with pytest.raises(ReldropError, match="is damaged"):
        evaluate(config(tmp_path, f"run={folder}"))
    torch.save({"model": timm.create_model("resnet10t").state_dict(), "epoch": 1}, folder / "last.pt")
    with pytest.raises(ReldropError, match="does not fit backbone resnet_tiny"):
        evaluate(config(tmp_path, f"run={folder}"))
    assert not (folder / "zero_shot.json").exists()


def test_networks_that_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "imagenet-a", metrics.class_wnids("imagenet_a")[:1])

    def refused(message: str, name: str, *overrides: str) -> None:
        with pytest.raises(ReldropError, match=message):
            evaluate(config(tmp_path, f"model={name}", f"weights={tmp_path / 'weights.pt'}", *overrides))

    (tmp_path / "weights.pt").write_text("no weights")
    refused("cannot load the weights of resnet10t", "resnet10t")
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pt")
    refused("cannot load the weights of resnet14t", "resnet14t")
    torch.save(timm.create_model("vit_tiny_patch16_384").state_dict(), tmp_path / "weights.pt")
    refused("does not take images of 224 pixels", "vit_tiny_patch16_384")
    evaluate(config(tmp_path, "model=vit_tiny_patch16_384", f"weights={tmp_path / 'weights.pt'}", "preprocessing=own"))
    refused(
        "cannot write", "vit_tiny_patch16_384", "preprocessing=own", f"output={tmp_path / 'weights.pt' / 'out.json'}"
    )


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "imagenet-a" / metrics.class_wnids("imagenet_a")[0]
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(ReldropError, match=r"0\.png"):
        evaluate(config(tmp_path, f"run={make_run(tmp_path)}"))


@pytest.mark.slow
def test_mistakes_at_the_command_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "reldrop.evaluate",
        "suite=zero_shot",
        f"data_dir={tmp_path}",
        f"results_dir={tmp_path / 'results'}",
    ]
    for override, message in (("run=nowhere", "none of imagenet_a"), ("modle=resnet18", "modle")):
        done = subprocess.run([*command, override], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (SAMPLE / "imagenet_sample" / "val").is_dir(), reason="needs data/imagenet_sample")
def test_real_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "weights.pt")
    overrides = ["model=resnet18", f"weights={tmp_path / 'weights.pt'}", f"data_dir={SAMPLE}", "limit=32", "workers=1"]
    results = evaluate(config(tmp_path, *overrides))
    assert results["imagenet_val"]["images"] == 32
    assert results["imagenet_val"]["top1"] < 0.1
    assert (tmp_path / "results" / "zero_shot" / "resnet18.json").is_file()
