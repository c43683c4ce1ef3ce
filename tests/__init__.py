"""The tests. Assertions of their helpers say as much as their own."""

import pytest

pytest.register_assert_rewrite("tests.helpers")
