"""Commands as a person types them, in this process, for a server without a daemon."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from rrqd.cli.main import cli
from tests.support.commands import Said


class Line:
    """``line("job", "tag", "a", "blue")``."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.file = folder / "rrq.toml"
        self.file.write_text(f'[rrq]\nredis_dsn = "{dsn}"\n')

    def __call__(self, *words: str) -> Said:
        done = CliRunner().invoke(cli, [*words, "--config", str(self.file)], prog_name="rrqd")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.stderr, done.stderr
        assert "internal error" not in done.stderr, done.stderr
        return Said(done.exit_code, done.stdout, done.stderr)
