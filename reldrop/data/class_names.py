"""Names of classes as people read them."""

import re
from collections.abc import Sequence

from reldrop.utils.text import plain


def class_titles(classes: Sequence[str]) -> list[str]:
    """Return the names to show of classes, plain text: of WordNet IDs of ImageNet the first word for them, e.g. koala."""
    if not any(re.fullmatch(r"n\d{8}", name) for name in classes):
        return [plain(name) for name in classes]
    from timm.data import ImageNetInfo  # timm takes seconds to import

    words: dict[str, str] = {}
    for subset in ("imagenet-22k", "imagenet-1k"):  # neither has all of the other's
        info = ImageNetInfo(subset)
        words |= {name: info.label_name_to_description(name, detailed=False) for name in info.label_names()}
    return [words.get(name, plain(name)).partition(",")[0] for name in classes]
