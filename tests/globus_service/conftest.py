"""The fixtures of this folder's tests: those of fixtures.py, that any other test may import too."""

import pytest
from fixtures import Desk, globus_cli, globus_desk, globus_program, globus_service

__all__ = ["globus_cli", "globus_desk", "globus_program", "globus_service"]


@pytest.fixture
def desk(globus_desk: Desk) -> Desk:
    return globus_desk
