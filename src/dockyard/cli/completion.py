"""`dockyard completion`: what a shell must know to complete Dockyard's words."""

from __future__ import annotations

import click

_INSTALL = {
    "bash": 'eval "$(dockyard completion bash)"    # in ~/.bashrc',
    "zsh": 'eval "$(dockyard completion zsh)"    # in ~/.zshrc, after compinit',
    "fish": "dockyard completion fish > ~/.config/fish/completions/dockyard.fish",
}


@click.command(epilog="\b\n" + "\n".join(_INSTALL.values()))
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def completion(*, shell: str) -> None:
    """Print the completion of SHELL: commands, options, names of containers and images."""
    from click.shell_completion import get_completion_class

    from dockyard.cli.main import cli

    made = get_completion_class(shell)
    assert made is not None
    print(made(cli, {}, "dockyard", "_DOCKYARD_COMPLETE").source())
