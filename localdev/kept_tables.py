"""Keeps the embedded tables when an edit replaces the process that holds them.

The old process saves them to a temporary file, and the new process reads and deletes the file.
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
    """Restore the tables that the previous process saved, and save them again before the next restart.

    Return whether there were any. The caller can still append to `mappings` after this call.
    """
    before_restart.append(partial(_save, embedded, mappings))
    try:
        snapshot = _pop_file()
        if snapshot is not None:
            embedded.restore(snapshot)
    except Exception as failure:  # An edit of the engine itself can make the snapshot unreadable.
        say(f"chalice: the tables could not be restored: {type(failure).__name__}: {failure}")
        return False
    return snapshot is not None


def _save(embedded: EmbeddedDynamoDB, mappings: Sequence[StreamMapping]) -> None:
    """Write the tables, and the records that a function hasn't finished, which are redelivered."""
    taken = {mapping.table: mapping.last_taken() for mapping in mappings}
    try:
        _file().unlink(missing_ok=True)
        with os.fdopen(os.open(_file(), _NEW_FILE, 0o600), "wb") as file:
            file.write(embedded.freeze(taken))
    except OSError as failure:
        say(f"chalice: the tables could not be saved: {failure.strerror}")


def _pop_file() -> bytes | None:
    """Delete the file and return its content, or None if this user has no such file."""
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
