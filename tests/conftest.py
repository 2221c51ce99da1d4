"""What every test gets: a Hypothesis profile (``--hypothesis-profile=thorough`` for more), its seed in the header."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import settings

from engines import ENGINES, Engine, on_engine
from postgres_server import drop_schemas, lent, take_back
from web_pages import browser, certificate, chromium, node, page

__all__ = ["browser", "certificate", "chromium", "node", "page"]

pytest.register_assert_rewrite("identity_world")
settings.register_profile("oneself", deadline=None, print_blob=True, max_examples=100)
settings.register_profile("thorough", settings.get_profile("oneself"), max_examples=3000)
settings.load_profile("oneself")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that asks for it once on each storage engine."""
    if getattr(metafunc.module, "BOTH_ENGINES", False):
        metafunc.parametrize("storage", ENGINES, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def storage(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The engine that data is on, until another one has its turn."""
    before = lent()
    engine: Engine = getattr(request, "param", "folder")
    with on_engine(engine):
        yield engine
    take_back(before)


@pytest.fixture(autouse=True)
def _schemas() -> Iterator[None]:
    """Empty the schemas that a test used in PostgreSQL."""
    before = lent()
    yield
    take_back(before)


def pytest_sessionfinish() -> None:
    """Drop them at the end."""
    drop_schemas()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed here, so that it can be printed; ``--hypothesis-seed`` repeats a run."""
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(random.SystemRandom().getrandbits(32))


def pytest_report_header(config: pytest.Config) -> str:
    """Print the seed."""
    return f"repeat with: --hypothesis-seed={config.getoption('--hypothesis-seed')}"
