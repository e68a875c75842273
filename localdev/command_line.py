"""Finds out which Chalice command this process runs, and with which options.

Chalice tells the app only that a command runs, through AWS_CHALICE_CLI_MODE. So this module parses the
arguments again with Chalice's own definition of its command line.
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
        """The WebSocket API's stage in API Gateway. The default is the Chalice stage's name."""
        project = _project()
        configured: str = project.get("stages", {}).get(self.stage, {}).get("api_gateway_stage", "")
        return configured or str(project.get("api_gateway_stage", self.stage))

    @property
    def is_configured(self) -> bool:
        """Whether .chalice/config.json defines the stage."""
        return self.stage in _project().get("stages", {})


def _project() -> dict[str, Any]:
    project: dict[str, Any] = CLIFactory(project_dir=".").load_project_config()
    return project


def parse(argv: Sequence[str]) -> ChaliceLocal | None:
    """Return the options in the arguments, or None if the command isn't a valid `chalice local`."""
    options = _options_of("local", argv)
    return None if options is None else ChaliceLocal(options["host"], options["port"], options["stage"])


def stage_of(command: str, argv: Sequence[str]) -> str | None:
    """Return the stage in the arguments, or None if they aren't those of the Chalice command."""
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
    """Return the options if this process is `chalice local`, otherwise None."""
    return parse(sys.argv)


def deploying() -> str | None:
    """Return the stage if this process is `chalice deploy`, otherwise None."""
    return stage_of("deploy", sys.argv)


def packaging() -> str | None:
    """Return the stage if this process is `chalice package`, otherwise None."""
    return stage_of("package", sys.argv)
