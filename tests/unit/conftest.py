"""Fixtures that several rooms of unit tests share."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from lab import layout
from tests.unit.fakecluster import FakeCluster
from tests.unit.fakeserver import Server, served


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection, as they live until the end anyway."""
    gc.freeze()


@contextlib.contextmanager
def serving(app: web.Application) -> Iterator[str]:
    """URL of an application that a thread serves on a free port of the loopback."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, shutdown_timeout=0)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session", autouse=True)
def no_authorities() -> Iterator[None]:
    """Load no certificate authorities by default, as reading them takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", "")
        patch.setenv("SSL_CERT_DIR", "")
        yield


@pytest.fixture
def serve() -> Iterator[Callable[[web.Application], str]]:
    """Serves an application until the test ends."""
    with contextlib.ExitStack() as served:
        yield lambda app: served.enter_context(serving(app))


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory of the lab's active faults; it is empty."""
    directory = tmp_path / "faults"
    directory.mkdir()
    monkeypatch.setattr(layout, "FAULTS_DIR", directory)
    return directory


@pytest.fixture
def cluster() -> FakeCluster:
    """Two Backstage pods on two of three nodes, one disruption allowed."""
    return FakeCluster()


@pytest.fixture
def server(cluster: FakeCluster) -> Iterator[Server]:
    """The cluster's API."""
    with served(cluster) as server:
        yield server
