"""What all tests of guests share."""

import os

import pytest

import board as boards


@pytest.fixture(scope="session")
def board(tmp_path_factory):
    if lacking := boards.lacking():
        reason = "this machine lacks: " + ", ".join(lacking)
        assert "TANDEM_REQUIRE_ALL" not in os.environ, reason
        pytest.skip(reason)
    return boards.make(tmp_path_factory.mktemp("board"))
