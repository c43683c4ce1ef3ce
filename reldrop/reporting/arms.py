"""How each augmentation is called and drawn, in all tables and figures: one table for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from reldrop.utils.text import plain


@dataclass(frozen=True)
class Look:
    """Name, color and marker of an arm. Colors are those of Okabe and Ito (2008), which the color-blind tell apart."""

    title: str
    color: str
    marker: str
    dashes: tuple[float, ...] = ()  # lengths of line and gap, for prints without color; none for a solid line


ERASING, BLOCK = ("#0072B2", "s", (5, 1.5)), ("#D55E00", "^", ())  # the random method and RelDrop, whatever the data
ARMS = {  # augmentation -> its look, in the order of the paper; methods for images and points never meet in a figure
    "none": Look("none", "#000000", "o", (1, 1)),
    "random_erasing": Look("random erasing", *ERASING),
    "random_point_dropout": Look("random point dropout", *ERASING),
    "reldrop_block": Look("RelDrop-block", *BLOCK),
    "reldrop_point": Look("RelDrop-point", *BLOCK),
    "reldrop_patch": Look("RelDrop-patch", "#009E73", "D", (4, 1, 1, 1)),
    "reldrop_pixel": Look("RelDrop-pixel", "#CC79A7", "v", (3, 1, 1, 1, 1, 1)),
    "random_ball": Look("random ball", "#56B4E9", "P", (8, 2)),
    "reldrop_ball": Look("RelDrop-ball", "#009E73", "D", (4, 1, 1, 1)),
}
FREE = [  # for arms of the user's own, and further settings of one arm
    Look("", "#E69F00", "X", (2, 2)),
    Look("", "#56B4E9", "P", (8, 2)),
    Look("", "#666666", "*", (6, 1, 1, 1)),
    Look("", "#882255", "<", (2, 1)),
    Look("", "#117733", ">", (1, 3)),
    Look("", "#332288", "h", (8, 1, 2, 1)),
]


def arm_title(name: str) -> str:
    """Return the title of a column: NAME, or NAME and the settings behind a comma; RelDrop-block for reldrop_block."""
    augmentation, comma, settings = name.partition(",")
    known = ARMS.get(augmentation)
    title = known.title if known else augmentation.replace("reldrop_", "RelDrop-").replace("_", " ")
    return plain(title + comma + settings)


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """Return the look of each arm of a figure.

    An arm of the table looks the same in every figure; others, e.g. a second setting of one, get the next free look.

    Args:
        arms: augmentations, perhaps with settings behind a comma, e.g. "reldrop_block, k 5".
    """
    reserved = {ARMS[name].color for arm in arms if (name := arm.partition(",")[0]) in ARMS}
    free = cycle([look for look in FREE if look.color not in reserved])
    found: dict[str, Look] = {}
    for arm in arms:
        known = ARMS.get(arm.partition(",")[0])
        is_free = known is not None and known.color not in {look.color for look in found.values()}
        found[arm] = replace(known if is_free else next(free), title=arm_title(arm))
    return found
