from collections.abc import Iterator

import pytest
from host import Host

pytest.register_assert_rewrite("cases")


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    started = Host()
    yield started
    started.stop()
