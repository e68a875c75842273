"""Prepares a process of Chalice's command line, which loads app.py, for its command."""

import os

from chalicelib.settings import Settings, SettingsError
from localdev.command_line import deploying, packaging
from localdev.ending import end
from localdev.local_aws import LocalAws


def prepare() -> LocalAws | None:
    """Return the local AWS if this process is `chalice local`, or None for other commands.

    Prepares `chalice deploy` and `chalice package`. Ends the process with one line if a setting is wrong.
    """
    local_aws = LocalAws.if_asked_for()
    if (stage := deploying()) is not None:
        import deployment

        deployment.prepare(stage, end)
    elif (stage := packaging()) is not None:
        import deployment

        deployment.prepare_package(stage, end)
    try:
        Settings.from_environment(os.environ)
    except SettingsError as wrong:
        end(str(wrong))
    return local_aws
