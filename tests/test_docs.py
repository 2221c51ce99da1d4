"""The README's commands work, the pages link to pages that exist, and the package works as a wheel."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from page_examples import run_examples

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]


def test_readme_commands_are_those_that_the_tests_run():
    assert SHELL == [
        "make serve",
        ".venv/bin/oneself why ana-signs-up",
        "make test",
        "pip install .",
        "oneself serve",
    ]


@pytest.fixture
def ready_venv(tmp_path: Path) -> Path:
    """A folder that looks to the Makefile like its finished virtual environment: this one."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "oneself", "ruff", "mypy", "lint-imports"):
        found = Path(sys.executable).parent / name
        if found.exists():
            (venv / "bin" / name).symlink_to(found)
    (venv / ".ready").touch()
    return venv


@pytest.fixture
def shop(tmp_path: Path, ready_venv: Path) -> Iterator[tuple[Path, list[str]]]:
    """The sample shop as ``make serve`` runs it: its data folder and what it printed."""
    data = tmp_path / "data"
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["make", "serve", f"VENV={ready_venv}", f"ARGS=--port 0 --data {data}"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line.rstrip("\n"))
            if line.startswith("curl "):
                break
        assert any(line.startswith("curl ") for line in printed), (tmp_path / "log").read_text()
        yield data, printed
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        process.stdout.close()


def test_make_serve_prints_a_curl_line_that_works_and_why_explains(shop: tuple[Path, list[str]]):
    data, printed = shop
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    curl = next(line for line in printed if line.startswith("curl "))
    answer = subprocess.run(["bash", "-c", f"{curl} -s"], capture_output=True, text=True, check=True, timeout=30)
    assert re.search(r'"mpid":"-?\d+"', answer.stdout), answer.stdout
    command = [sys.executable, "-m", "oneself", "why", "ana-signs-up", "--data", str(data)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert '"is_logged_in":true' in answer.stdout
    assert "login" in told.stdout
    assert "ana@example.com" in told.stdout


@contextmanager
def bare_server(folder: Path) -> Iterator[list[str]]:
    """Run `oneself serve` without anything in an empty folder; yields what it prints.

    Where somebody else has its port, it is told to take a free one.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ONESELF_")}
    for options in ((), ("--port", "0")):
        command = [sys.executable, "-m", "oneself", "serve", *options]
        with (folder.parent / "log").open("w+") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=log, text=True
            )  # fmt: skip
            assert process.stdout is not None
            with process.stdout:
                try:
                    printed = [line.rstrip("\n") for line in iter_until(process.stdout, "curl ")]
                    if printed:
                        yield printed
                        return
                finally:
                    process.terminate()
                    process.wait(20)
            log.seek(0)
            said = log.read()
            assert "address already in use" in said.lower(), said


def iter_until(lines: Iterable[str], begin: str) -> Iterator[str]:
    """Yield lines up to the first that begins so."""
    for line in lines:
        yield line
        if line.startswith(begin):
            return


def test_a_bare_serve_in_an_empty_folder_prints_keys_and_a_curl_line_that_works(tmp_path: Path):
    folder = tmp_path / "empty"
    folder.mkdir()
    with bare_server(folder) as printed:
        url = re.fullmatch(r"Oneself serves (http://127\.0\.0\.1:\d+) with its data in oneself-data", printed[0])
        assert url
        config = tomllib.loads((folder / "oneself-data/oneself.toml").read_text())
        server, web = config["input"]
        assert printed[2:5] == [
            f"  server  key {server['key']} secret {server['secret']}",
            f"  web     key {web['key']}",
            f"  API client admin secret {config['api_client'][0]['client_secret']}",
        ]
        curl = printed[-1]
        assert url[1] in curl
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        answer = subprocess.run(["bash", "-c", f"{curl} -s"], capture_output=True, text=True, check=True, timeout=30)
        assert re.search(r'"mpid":"-?\d+"', answer.stdout), answer.stdout
    assert [one.name for one in folder.iterdir()] == ["oneself-data"]


def test_the_sample_shop_is_filled_once(shop: tuple[Path, list[str]]):
    assert re.search(r"\([1-9]\d+ new decisions\)", "\n".join(shop[1]))


def test_the_example_of_sending_events_answers_what_the_page_says(shop: tuple[Path, list[str]]):
    data, printed = shop
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    example = (ROOT / "docs/events.md").read_text().partition("## An example")[2].partition("\n## ")[0]
    config = tomllib.loads((data / "oneself.toml").read_text())
    server = next(one for one in config["input"] if one["name"] == "server")
    environ = {
        "KEY": server["key"],
        "SECRET": server["secret"],
        "ADMIN_SECRET": config["api_client"][0]["client_secret"],
    }
    url = re.search(r"http://\S+", "\n".join(printed))
    assert url
    assert run_examples(example, url[0], environ, data) == 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_that_exist(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_docstrings_name_pages_that_exist():
    named = {
        name for path in (ROOT / "src").rglob("*.py") for name in re.findall(r"docs/[\w-]+\.md", path.read_text())
    }
    missing = [name for name in sorted(named) if not (ROOT / name).exists()]
    assert not missing


def test_the_wheel_works_without_the_source(tmp_path: Path):
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("oneself-*.whl")
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    program = "import oneself, sys; from oneself.commands import main; print(oneself.__file__); main(['--version'])"
    run = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)}, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(target)), "the wheel must be what is imported"
