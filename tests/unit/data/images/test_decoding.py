"""Decoding."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reldrop.data.images.decoding import decode
from reldrop.utils.errors import ReldropError
from tests.helpers.images import folder_data, make_folders, picture


@pytest.mark.parametrize(
    ("size", "inner"), [((16, 8), (4, 0, 12, 8)), ((8, 20), (0, 6, 8, 14)), ((8, 8), (0, 0, 8, 8))]
)
def test_decode_crops_the_center(tmp_path: Path, size: tuple[int, int], inner: tuple[int, ...]) -> None:
    image = picture(0, size)
    image.save(tmp_path / "image.png")
    assert np.array_equal(decode(str(tmp_path / "image.png"), 8).transpose(1, 2, 0), image.crop(inner))


def test_decode_resizes_the_short_side(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30, 0] = 200  # the middle square
    Image.fromarray(pixels).save(tmp_path / "image.png")
    decoded = decode(str(tmp_path / "image.png"), 10)
    assert decoded.shape == (3, 10, 10)
    assert (decoded[0, :, 1:-1] == 200).all()
    assert (decoded[0] > 150).all()  # the filter reaches over the border of the crop
    assert (decoded[1:] == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_decode_reads_any_mode_as_rgb(tmp_path: Path, mode: str) -> None:
    path = str(tmp_path / "image.tif")
    if mode == "I;16":
        Image.fromarray(np.full((8, 8), 300 * 128, np.uint16)).save(path)
    else:
        Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(path)
    decoded = decode(path, 8)
    assert (decoded.shape, decoded.dtype) == ((3, 8, 8), np.uint8)
    assert (decoded == (150 if mode == "I;16" else 255)).all()


def test_decode_refuses_pixels_without_a_range(tmp_path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(tmp_path / "image.tif")
    with pytest.raises(ReldropError, match=r"cannot decode image .*image.tif: floating-point"):
        decode(str(tmp_path / "image.tif"), 8)


@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes | str) -> None:
    base = make_folders(tmp_path / "some")
    damaged = base / "test" / "class2" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:80] if content == "truncated" else content)
    with pytest.raises(ReldropError, match=f"cannot decode image {damaged}: .*; replace or remove it"):
        folder_data(base)
