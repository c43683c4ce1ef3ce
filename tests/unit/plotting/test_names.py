"""Names of classes are drawn as they are."""

import pytest

from reldrop.plotting.layout import grid


@pytest.mark.parametrize("name", ["x_$y_$", "a $b$ c", "a_b^c", r"\frac{", "50 %"])
def test_any_name_is_a_title(name: str) -> None:
    figure = grid({name: [None]}, [name], lambda axis, content: None)
    figure.draw_without_rendering()
    assert figure.axes[0].get_title() == name
    assert not figure.axes[0].title.get_parse_math()
