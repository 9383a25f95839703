"""A real HTTP server that is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sweeps.notify.listener import Listener, listening


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.delenv("LUCELOOP_NOTIFY", raising=False)
    with listening() as found:
        yield found
