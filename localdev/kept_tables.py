"""Keeps the embedded tables over an edit, which ends the process that has them and starts another one.

They lie in a file of the temporary directory for the second that lies between the two.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from localdev.embedded_dynamodb import EmbeddedDynamoDB
from localdev.ending import before_restart, note_for_next_worker
from localdev.stream_mapping import StreamMapping
from localdev.terminal import say

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def keep(embedded: EmbeddedDynamoDB, mappings: Sequence[StreamMapping]) -> bool:
    """Restore the tables that the process before an edit left, and leave them to the one after the next edit.

    Returns whether there were any. `mappings` can get more elements until then.
    """
    before_restart.append(partial(_leave, embedded, mappings))
    try:
        snapshot = _taken_file()
        if snapshot is not None:
            embedded.restore(snapshot)
    except Exception as failure:  # Also an edit of the engine can make the snapshot one that it can't read.
        say(f"chalice: the tables could not be kept: {type(failure).__name__}: {failure}")
        return False
    return snapshot is not None


def _leave(embedded: EmbeddedDynamoDB, mappings: Sequence[StreamMapping]) -> None:
    """Write the tables. A record that a function is working on counts as not taken, and is given again."""
    taken = {mapping.table: mapping.last_taken() for mapping in mappings}
    try:
        _file().unlink(missing_ok=True)
        with os.fdopen(os.open(_file(), _NEW_FILE, 0o600), "wb") as file:
            file.write(embedded.freeze(taken))
    except OSError as failure:
        say(f"chalice: the tables could not be kept: {failure.strerror}")


def _taken_file() -> bytes | None:
    """Return what is in the file, which is deleted, or None if there is none of this user."""
    path = _file()
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            content = file.read()
    except OSError:
        return None
    with suppress(OSError):
        path.unlink()
    return content


def _file() -> Path:
    project = hashlib.sha256(os.fsencode(Path.cwd())).hexdigest()[:16]
    return note_for_next_worker(f"{project}-tables")
