"""The `dockyard` command: finds a subcommand, and turns errors and signals into exit codes.

Rules:
- A command's module is imported when the command is called, never for --help or --version.
- Exit codes: 0; 1 and 2 as the error says; 130 after Ctrl-C, 143 after SIGTERM, 141 when the
  reader of our output went away. Both signals unwind the stack, so that context managers clean up.
- Only DockyardError is a message; any other exception is a bug and shows its traceback.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from dockyard import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from click.shell_completion import CompletionItem

    from dockyard.errors import DockyardError

# Name: where the click command is, and its line in `dockyard --help`.
COMMANDS: dict[str, tuple[str, str]] = {
    "build": ("dockyard.cli.build:build", "Build an image from a project folder."),
    "init": ("dockyard.cli.init:init", "Write dockyard.toml with what was detected, and why."),
    "lock": ("dockyard.cli.lock:lock", "Write pylock.toml: the exact packages of the image."),
    "run": ("dockyard.cli.run:run", "Run an image, or build a project folder and run that."),
    "serve": ("dockyard.cli.serve:serve", "Serve a model or class here, for development."),
    "up": ("dockyard.cli.up:up", "Start the app with its services: database, monitoring."),
    "down": ("dockyard.cli.down:down", "Stop what `up` started, and remove its containers."),
    "stack": ("dockyard.cli.stack:stack", "Look at what `up` started: ps, logs, restart."),
    "predictions": ("dockyard.cli.predictions:predictions", "List what a stack's app answered."),
    "compose": ("dockyard.cli.compose:compose", "Write compose.yaml: the app and its services."),
    "ps": ("dockyard.cli.ps:ps", "List containers: what they do, and how they are."),
    "logs": ("dockyard.cli.logs:logs", "Show what containers wrote, and go on writing."),
    "exec": ("dockyard.cli.exec:exec_", "Run a command, or a shell, in a running container."),
    "stop": ("dockyard.cli.lifecycle:stop", "Stop containers."),
    "start": ("dockyard.cli.lifecycle:start", "Start stopped containers."),
    "restart": ("dockyard.cli.lifecycle:restart", "Stop containers and start them again."),
    "kill": ("dockyard.cli.lifecycle:kill", "Send a signal to containers."),
    "wait": ("dockyard.cli.lifecycle:wait", "Wait for containers' ends; print their exit codes."),
    "rm": ("dockyard.cli.lifecycle:rm", "Remove containers."),
    "stats": ("dockyard.cli.stats:stats", "Show what containers use: CPU, memory, network, disk."),
    "top": ("dockyard.cli.look:top", "Show the processes of a container."),
    "port": ("dockyard.cli.look:port", "Show where a container's ports are published."),
    "cp": ("dockyard.cli.cp:cp", "Copy files into and out of containers."),
    "inspect": ("dockyard.cli.inspect:inspect", "Show an image's layers, or all of a container."),
    "network": ("dockyard.cli.network:network", "Networks on which containers find each other."),
    "volume": ("dockyard.cli.volume:volume", "Data that outlives containers."),
    "image": ("dockyard.cli.image:image", "List, name and remove images."),
    "prune": ("dockyard.cli.prune:prune", "Remove what nobody needs any more."),
    "push": ("dockyard.cli.push:push", "Push an image to a registry."),
    "pull": ("dockyard.cli.pull:pull", "Pull an image from a registry."),
    "copy": ("dockyard.cli.copy:copy", "Copy an image between registries and files."),
    "tags": ("dockyard.cli.tags:tags", "List a repository's tags."),
    "login": ("dockyard.cli.login:login", "Log in to a registry."),
    "logout": ("dockyard.cli.login:logout", "Forget a registry's login."),
    "verify": ("dockyard.cli.verify:verify", "Check an image's layers, or make them again."),
    "gpus": ("dockyard.cli.gpus:gpus", "Show this machine's GPUs, and who holds which."),
    "layers": ("dockyard.cli.layers:layers", "Say what fills an image, and what could go."),
    "diff": ("dockyard.cli.diff:diff", "Say what changed between two images."),
    "dockerfile": (
        "dockyard.cli.dockerfile:dockerfile",
        "Write the Dockerfile that makes what Dockyard builds.",
    ),
    "lint": ("dockyard.cli.lint:lint", "Say what is wrong with a Dockerfile and its project."),
    "outdated": ("dockyard.cli.outdated:outdated", "Say which packages and bases are newer."),
    "cache": ("dockyard.cli.cache:cache", "Show what the cache holds, or prune it."),
    "schema": ("dockyard.cli.schema:schema", "Print the JSON Schema of dockyard.toml."),
    "completion": ("dockyard.cli.completion:completion", "Print the completion of a shell."),
    "version": ("dockyard.cli.version:version", "Show the versions of Dockyard and of the engine."),
}

_COLLECT_EVERY = 50_000  # Objects made and not freed; Python's own default is 700.

INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; ends that click would give its own codes are given ours."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                # The shell's prompt must not follow the terminal's ^C on the same line.
                print(file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:
            # Python flushes stdout once more at exit; give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(BROKEN_PIPE) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is answered with the nearest names."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=3, cutoff=0.55)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands from the table, without importing them."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return (
            found
            if found and not incomplete.startswith("-")
            else super().shell_complete(ctx, incomplete)
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table; importing every command for its help would be slow."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="dockyard")
def cli() -> None:
    """From a deep-learning project to a container image and production."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Imports make many objects and no garbage. Looking through them for cycles, over and over and
    # once more at the exit, took a seventh of the time of a short command.
    gc.set_threshold(_COLLECT_EVERY)
    code = run_command_line(sys.argv[1:] if args is None else args)
    gc.freeze()
    sys.exit(code)


def run_command_line(args: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    from dockyard.errors import DockyardError

    previous = _on_terminate(_terminate)
    try:
        result: Any = cli.main(list(args), prog_name="dockyard", standalone_mode=False)
    except DockyardError as error:
        show_error(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    finally:
        _on_terminate(previous)
    return result if isinstance(result, int) else 0


def show_error(error: DockyardError) -> None:
    """Print what happened, where and what to do next to stderr."""
    from dockyard.cli.output import use_colour

    red, dim, plain = ("\033[1;31m", "\033[2m", "\033[0m") if use_colour(sys.stderr) else ("",) * 3
    lines = [f"{red}error:{plain} {error.what}"]
    if error.where is not None:
        lines.append(f"  {dim}{error.where}{plain}")
    if error.hint is not None:
        lines.extend(f"  {line}".rstrip() for line in error.hint.splitlines())
    print("\n".join(lines), file=sys.stderr, flush=True)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _on_terminate(handler: Any) -> Any:
    """Install a handler of SIGTERM where that is possible; return the one before."""
    try:
        return signal.signal(signal.SIGTERM, handler)
    except ValueError:  # Not the main thread: the caller's signals are the caller's affair.
        return signal.SIG_DFL
