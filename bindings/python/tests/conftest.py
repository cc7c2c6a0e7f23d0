from collections.abc import Iterator

import pytest
from host import Host


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    started = Host()
    yield started
    started.stop()
