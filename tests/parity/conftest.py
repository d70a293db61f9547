"""What tests of parity share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parity.parts import pool
from parity.planted import noticed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def planted(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """`planted(sentence)`: how that error was noticed, "" when it was not. All those of this run are tried at the same time,
    in as many processes as there are cores."""
    wanted = [
        item.callspec.params["sentence"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "planted" in item.fixturenames
    ]
    with pool() as workers:
        found = {sentence: workers.submit(noticed, sentence) for sentence in wanted}
        yield lambda sentence: found[sentence].result()
        for one in found.values():
            one.cancel()
