"""The worked examples of pages: their commands, and whether what these answer is what the page says."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["PAGES", "assert_said", "commands_of", "run_examples"]

PAGES = Path(__file__).parent.parent / "docs"
_END = "== the end of a command =="


def commands_of(block: str) -> list[tuple[str, str]]:
    """Return the commands of an example, each with what it is said to answer."""
    steps: list[tuple[str, str]] = []
    command, says = "", ""
    for line in block.splitlines(keepends=True):
        if line.startswith("$ ") and command.count("'") % 2 == 0:
            if command:
                steps.append((command, says))
            command, says = line[2:], ""
        elif command.count("'") % 2 or command.endswith("\\\n"):
            command += line
        else:
            says += line
    return [*steps, (command, says)]


def run_examples(text: str, url: str, environ: Mapping[str, str], folder: Path) -> int:
    """Run the examples of a page in one shell, against a server, and prove that they answer what the page says.

    Returns how many commands that were. ``folder`` takes the files that they write.
    """
    blocks = [block for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S) if block.startswith("$ ")]
    steps = [step for block in blocks for step in commands_of(block)]
    script = "".join(f"{command}\necho; echo '{_END}'\n" for command, _ in steps)
    script = script.replace("http://127.0.0.1:8080", url)
    ran = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | environ, cwd=folder, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    answers = ran.stdout.split(_END)[:-1]
    assert len(answers) == len(steps)
    for (command, says), answer in zip(steps, answers, strict=True):
        assert_said(says, answer, command)
    return len(steps)


def assert_said(says: str, answer: str, command: str) -> None:
    """Assert that an answer is as said: ``…`` stands for anything, and white space for nothing."""
    pattern = ".*".join(re.escape(re.sub(r"\s+", "", part)) for part in says.split("…"))
    assert re.fullmatch(pattern, re.sub(r"\s+", "", answer), re.S), f"{command}\nanswered {answer}"
