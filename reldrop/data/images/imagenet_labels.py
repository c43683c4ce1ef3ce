"""The labels of ImageNet's val images as WNIDs, where all images are in one folder.

They are read from one of these, told apart by what is in them:
    a WNID a line, in the order of the images' names (imagenet_2012_validation_synset_labels.txt);
    an ILSVRC id a line, likewise (ILSVRC2012_validation_ground_truth.txt). Ids count from 1 in an order that is not the
        WNIDs': a second file has a line "WNID ID ..." for each (map_clsloc.txt);
    a table of image names, a comma, and a WNID with its boxes (LOC_val_solution.csv).
"""

from collections.abc import Sequence
from pathlib import Path

from reldrop.data.paths import first, read_lines
from reldrop.utils.errors import ReldropError

DEVKIT = "ILSVRC2012_devkit_t12/data/"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
LABELS = ("imagenet_2012_validation_synset_labels.txt", "LOC_val_solution.csv", GROUND_TRUTH, DEVKIT + GROUND_TRUTH)
IDS = ("map_clsloc.txt", DEVKIT + "map_clsloc.txt")


def val_wnids(
    images: Sequence[str], places: Sequence[Path], labels: str | None = None, ids: str | None = None
) -> list[str]:
    """Return the WNID of each of the `images`, which are sorted by name.

    Args:
        images: files.
        places: folders that the files of labels are looked for in.
        labels: that file; None for the first of `LABELS` that is found.
        ids: the file of ids; None for the first of `IDS`. It is read where the labels are ids.

    Raises:
        ReldropError: a file is not found, or does not fit.
    """
    path = _find(places, labels, LABELS, "val_labels", "the labels of the val images")
    lines = [line for _, line in read_lines(path)]
    if path.suffix == ".csv":
        return _by_name(images, path, lines)
    if len(lines) != len(images):
        raise ReldropError(f"{path} has {len(lines)} labels for {len(images)} images; it needs a line for each")
    if not all(line.isdecimal() for line in lines):
        return [line.split()[0] for line in lines]
    table = _ids(_find(places, ids, IDS, "synset_ids", f"which WNIDs the ids in {path} are"))
    if absent := [line for line in lines if int(line) not in table]:
        raise ReldropError(f"{path} has the id {absent[0]}, which no line of the file of ids gives a WNID")
    return [table[int(line)] for line in lines]


def read_wnids(root: str | Path, file: str) -> list[str]:
    """Return the WNIDs that the lines of a file begin with; a path relative to `root`, or absolute.

    Raises:
        ReldropError: it cannot be read.
    """
    return [line.split()[0] for _, line in read_lines(Path(root).expanduser() / Path(file).expanduser())]


def _find(places: Sequence[Path], chosen: str | None, known: Sequence[str], setting: str, what: str) -> Path:
    names = known if chosen is None else [str(Path(chosen).expanduser())]
    path = first([place / name for place in places for name in names], Path.is_file)
    if path is None:
        raise ReldropError(
            f"{what} not found: looked for {', '.join(names)} in {', '.join(map(str, places))}; "
            f"set dataset.{setting} to the file, or sort the images into folders val/WNID"
        )
    return path


def _by_name(images: Sequence[str], path: Path, lines: Sequence[str]) -> list[str]:
    table = dict(line.split()[0].partition(",")[::2] for line in lines)
    stems = [Path(image).stem for image in images]
    if absent := [stem for stem in stems if not table.get(stem)]:
        raise ReldropError(f"{path} has no label for the image {absent[0]}")
    return [table[stem] for stem in stems]


def _ids(path: Path) -> dict[int, str]:
    table = {}
    for where, line in read_lines(path):
        wnid, *rest = line.split()
        if not rest or not rest[0].isdecimal():
            raise ReldropError(f"{where}: {line!r} is not a WNID and its ILSVRC id (n02119789 1 kit_fox)")
        table[int(rest[0])] = wnid
    return table
