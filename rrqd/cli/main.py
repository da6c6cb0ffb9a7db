"""`rrqd [--config FILE] [command …]`; without a command, the daemon.

Exit codes: 0 done · 1 refused or failed · 2 wrong usage · 69 no answer from the store · 75 not over yet ·
78 wrong configuration · 130 interrupted from the keyboard. An error is one or a few lines on stderr, never a traceback,
unless RRQD_TRACEBACK is set to something.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

import rrqd
from rrqd.cli.invocation import Invocation, config_option
from rrqd.cli.output import complain
from rrqd.config.objects import PREFIX, VARIABLE, is_object, name_of
from rrqd.exc import ConfigError, RRQError, StoreUnavailable

EX_FAILED = 1
EX_UNAVAILABLE = 69
EX_CONFIG = 78
EX_INTERRUPTED = 130

TRACEBACK_VARIABLE = "RRQD_TRACEBACK"


class Entry(NamedTuple):
    """Where a command lives, and its line in the help, so that the help need not import it."""

    home: str
    summary: str


COMMANDS = {
    "init": Entry("rrqd.cli.init_command:init", "Write a first rrq.toml and jobs.py that run as they are."),
    "config": Entry("rrqd.cli.config_command:config", "Check, show or describe the configuration."),
    "enqueue": Entry("rrqd.cli.enqueue_command:enqueue", "Put a job into a queue, and wait for its end if asked to."),
    "status": Entry("rrqd.cli.status_command:status", "Show the server, the nodes, the queues, and what is wrong."),
    "tail": Entry("rrqd.cli.tail_command:tail", "Follow jobs as they start, end and fail."),
    "top": Entry("rrqd.cli.top_command:top", "Watch the daemon live, and act on what is seen."),
    "reload": Entry("rrqd.cli.daemon_commands:reload", "Replace workers by such of the file and code as they are now."),
    "upgrade": Entry("rrqd.cli.daemon_commands:upgrade", "Let the running master become the rrqd installed now."),
    "scale": Entry("rrqd.cli.daemon_commands:scale", "Change the number of a pool's workers."),
    "pause": Entry("rrqd.cli.daemon_commands:pause", "Let a pool, or all, take no more jobs."),
    "resume": Entry("rrqd.cli.daemon_commands:resume", "Let a pool, or all, take jobs again."),
    "restart": Entry("rrqd.cli.daemon_commands:restart", "Replace workers by fresh ones of the same code."),
    "dump": Entry("rrqd.cli.daemon_commands:dump", "Print what every process is doing."),
    "profile": Entry("rrqd.cli.profile_command:profile", "Draw where a worker's or a job's time goes."),
    "crashes": Entry("rrqd.cli.daemon_commands:crashes", "Show how processes died lately."),
    "stop": Entry("rrqd.cli.daemon_commands:stop", "Stop the daemon."),
    "runner": Entry("rrqd.cli.runner_command:runner", "Serve handlers over RRQ's runner protocol."),
    "worker": Entry("rrqd.cli.worker_command:worker", "Run or list workers, forget those that are gone."),
    "workers": Entry("rrqd.cli.workers_command:list_workers", "The other name of worker list."),
    "reqless-worker": Entry("rrqd.cli.reqless_command:reqless_worker", "Run job classes by reqless' own flags."),
    "queue": Entry("rrqd.cli.queue_command:queue", "Look at queues, pause them."),
    "job": Entry("rrqd.cli.job_command:job", "Look at jobs, run them again, cancel them, change what they wait for."),
    "cron": Entry("rrqd.cli.cron_command:cron", "Look at jobs by the clock, pause them, run one now."),
    "events": Entry("rrqd.cli.label_commands:events", "Follow the moves of tracked jobs."),
    "recurring": Entry("rrqd.cli.recurring_command:recurring", "Make jobs again and again, at an interval."),
    "throttle": Entry("rrqd.cli.throttle_command:throttle", "Limit how many jobs run at a time, over all queues."),
    "tenant": Entry("rrqd.cli.tenant_command:tenant", "Show and weigh tenants, whose jobs take turns in a queue."),
    "stats": Entry("rrqd.cli.past_commands:stats", "Show how a queue's jobs waited, ran and ended, by day."),
    "why": Entry("rrqd.cli.why_command:why", "Say why a job has not run yet."),
    "dlq": Entry("rrqd.cli.dlq_command:dlq", "Look at buried jobs and revive them."),
    "check": Entry("rrqd.cli.check_command:check", "Say whether workers are alive (RRQ's command)."),
    "health": Entry("rrqd.cli.check_command:check", "The other name of check."),
    "import": Entry("rrqd.cli.import_command:import_", "Move jobs over that wait in RQ's queues."),
    "debug": Entry("rrqd.cli.debug_command:debug", "Look into a running worker; make up jobs and load."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, and whose errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands whose modules exist in this build."""
        return [name for name, entry in COMMANDS.items() if _exists(entry)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or None if there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None or not _exists(entry):
            return None
        module, _, attribute = entry.home.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name when there is no such command."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            ctx.fail(f'there is no command "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line; also where `--help` is printed."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            _leave_quietly()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Here and above, and not in `main`: click has an answer of its own to a broken pipe."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _leave_quietly()

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run, and leave with the exit code that the outcome deserves (SystemExit)."""
        extra["standalone_mode"] = False
        prepare_streams()
        try:
            answer = super().main(args, *rest, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            _leave_quietly()
        except click.exceptions.Abort:
            sys.exit(EX_INTERRUPTED)
        except click.ClickException as error:
            complain(_one_line(error))
            sys.exit(error.exit_code)
        except Exception as error:
            sys.exit(report(error))
        sys.exit(answer if isinstance(answer, int) else 0)


def report(error: Exception) -> int:
    """Print the error for people; answers the exit code."""
    if os.environ.get(TRACEBACK_VARIABLE):
        complain("".join(traceback.format_exception(error)))
    if isinstance(error, RRQError):
        if isinstance(error, ConfigError):
            complain(str(error))  # as it is: each line begins with file:line, which editors follow
            return EX_CONFIG
        complain("\n".join(f"rrqd: {line}" for line in str(error).splitlines()) or f"rrqd: {type(error).__name__}")
        return EX_UNAVAILABLE if _unreachable(error) else EX_FAILED
    if isinstance(error, OSError):
        complain(f"rrqd: {error.filename}: {error.strerror}" if error.filename else f"rrqd: {error.strerror or error}")
        return EX_FAILED
    if isinstance(error, UnicodeEncodeError):  # an argument that is no text can be no name in the store
        complain(f"rrqd: not UTF-8 text: {error.object!r}")
        return EX_FAILED
    last = traceback.extract_tb(error.__traceback__)[-1]
    complain(
        f"rrqd: internal error: {type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno})\n"
        f"rrqd: set {TRACEBACK_VARIABLE}=1 to see where it comes from"
    )
    return EX_FAILED


def _unreachable(error: BaseException | None) -> bool:
    """Whether the server's silence is at the bottom of it."""
    while error is not None and not isinstance(error, StoreUnavailable | TimeoutError):
        error = error.__cause__ or error.__context__
    return error is not None


def _one_line(error: click.ClickException) -> str:
    """`rrqd enqueue: no such option '--jsn'; see rrqd enqueue --help`"""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()  # the help itself
    words = " ".join(error.format_message().split()).rstrip(".")
    words = re.sub(r"^Invalid value for ('?)(.+?)\1: ", lambda found: found[2].replace("'", "") + ": ", words)
    path = context.command_path if context is not None else "rrqd"
    if not words[:2].isupper():  # not an argument's name
        words = words[:1].lower() + words[1:]
    return f"{path}: {words}" + (f"; see {path} --help" if context is not None else "")


def prepare_streams() -> None:
    """Output that nobody can receive, or a terminal that lacks a letter, is no reason to fail."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _exists(entry: Entry) -> bool:
    return importlib.util.find_spec(entry.home.partition(":")[0]) is not None


def _leave_quietly() -> NoReturn:
    """The reader went away (`rrqd … | head`): exit code 0, and nowhere for Python's flush at exit to fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@config_option
@click.version_option(rrqd.__version__, "--version", "-V", message="rrqd %(version)s")
@click.option("--num-workers", metavar="N", type=click.IntRange(1, 1024), help="With --settings: worker processes.")
@click.pass_context
def cli(context: click.Context, num_workers: int | None) -> int | None:
    """Keep background jobs running: pools of worker processes over Redis or Valkey.

    Without a command the daemon runs in the foreground and logs to stderr; TERM or Ctrl-C ends it.
    """
    invocation = context.ensure_object(Invocation)
    if context.invoked_subcommand is None:
        return run_daemon(with_workers(invocation, num_workers))
    if num_workers is not None:
        raise click.UsageError("--num-workers is the daemon's; `rrqd worker run` has one of its own")
    return None


def with_workers(invocation: Invocation, num_workers: int | None) -> Invocation:
    """The invocation with so many worker processes; a file says itself how many."""
    if num_workers is None:
        return invocation
    path = invocation.config_path or name_of(os.environ.get(VARIABLE, ""))
    spec = Path(path).name.removeprefix(PREFIX)
    if not is_object(Path(path)) or not spec:
        raise click.UsageError("--num-workers goes with --settings; in a file it is `processes` of a pool")
    return Invocation(config_path=name_of(spec, num_workers))


def run_daemon(invocation: Invocation) -> int:
    """Load the settings and be the master until told to stop; answers the exit code."""
    loaded = invocation.load()
    from rrqd.supervisor import daemon

    return daemon.run_daemon(loaded)


def main() -> NoReturn:
    """The `rrqd` command."""
    if os.getpid() == 1:
        # The kernel throws away what the first process of a container does not handle. Blocked it waits until the
        # daemon has its ears.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    cli.main(prog_name="rrqd")
    raise AssertionError("click returned")  # LazyGroup.main always leaves by SystemExit
