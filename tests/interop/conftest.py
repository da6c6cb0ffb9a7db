"""The real rrq 0.11.1 in a virtual environment of its own: the judge of whether we speak RRQ."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

VERSION = "0.11.1"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / f"rrq-{VERSION}-py{sys.version_info[0]}{sys.version_info[1]}"


@dataclass(frozen=True)
class RealRRQ:
    """Its interpreter and its command line."""

    python: Path

    def run(self, *words: str, seconds: float = 120) -> str:
        """A Python script in its environment; answers stdout."""
        return self._call([str(self.python), *words], seconds)

    def cli(self, config: Path, *words: str, seconds: float = 30) -> str:
        """``rrq <words> --config <config>``; answers stdout."""
        return self._call([str(self.python.parent / "rrq"), *words, "--config", str(config)], seconds)

    def program(self, *words: str, seconds: float = 30) -> str:
        """The native program itself, without Python before it."""
        (path,) = self.python.parent.parent.glob("lib/python3*/site-packages/rrq/bin/rrq")
        return self._call([str(path), *words], seconds)

    def _call(self, command: list[str], seconds: float) -> str:
        quiet = {**os.environ, "RUST_LOG": "off", "PYTHONPATH": ""}
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=quiet, check=False)
        assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def real_rrq() -> RealRRQ:
    """``RRQD_TEST_RRQ`` (a python that has it), or an environment made once under ``.cache``."""
    named = os.environ.get("RRQD_TEST_RRQ")
    if named:
        return RealRRQ(Path(named))
    python = CACHE / "bin" / "python"
    if not (CACHE / "made").exists():
        venv.create(CACHE, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"rrq=={VERSION}"]
        subprocess.run(install, check=True, timeout=300)
        (CACHE / "made").touch()
    return RealRRQ(python)
