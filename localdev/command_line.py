"""Knowing that the command is `chalice local`, and how it was called.

Chalice sets AWS_CHALICE_CLI_MODE for every command and tells the app nothing more, so the arguments are
read once more by Chalice's own definition of its command line.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
from chalice.cli import cli
from chalice.cli.factory import CLIFactory


@dataclass(frozen=True, slots=True)
class ChaliceLocal:
    """The options of `chalice local`."""

    host: str
    port: int
    stage: str

    @property
    def api_stage(self) -> str:
        """The API Gateway stage of the WebSocket API: the configured one, or the stage's own name."""
        project = _project()
        configured: str = project.get("stages", {}).get(self.stage, {}).get("api_gateway_stage", "")
        return configured or str(project.get("api_gateway_stage", self.stage))

    @property
    def is_configured(self) -> bool:
        """Whether the configuration names the stage."""
        return self.stage in _project().get("stages", {})


def _project() -> dict[str, Any]:
    project: dict[str, Any] = CLIFactory(project_dir=".").load_project_config()
    return project


def parse(argv: Sequence[str]) -> ChaliceLocal | None:
    """The options in a process's arguments, or None when they are not those of `chalice local`."""
    options = _options_of("local", argv)
    return None if options is None else ChaliceLocal(options["host"], options["port"], options["stage"])


def stage_of(command: str, argv: Sequence[str]) -> str | None:
    """The stage in the arguments of a command of Chalice, or None when they are of another one."""
    options = _options_of(command, argv)
    return None if options is None else str(options["stage"])


def _options_of(command: str, argv: Sequence[str]) -> dict[str, Any] | None:
    try:
        group = click.Context(cli, info_name="chalice")
        _, arguments, _ = cli.make_parser(group).parse_args(list(argv[1:]))
        if arguments[:1] != [command]:
            return None
        return cli.commands[command].make_context(command, arguments[1:], parent=group).params
    except (click.ClickException, click.exceptions.Exit):
        return None


def of_this_process() -> ChaliceLocal | None:
    return parse(sys.argv)


def deploying() -> str | None:
    """The stage, when this process is `chalice deploy`."""
    return stage_of("deploy", sys.argv)


def packaging() -> str | None:
    """The stage, when this process is `chalice package`."""
    return stage_of("package", sys.argv)
