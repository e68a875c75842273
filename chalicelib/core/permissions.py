"""Decides which rooms a connection can join, and whose presence it sees.

Edit these functions to change the rules.
"""

from chalicelib.core.model import Connection, Permission

PREFIX = "*"


def may_join(connection: Connection, room_id: str) -> Permission | None:
    """Return whether the connection can join the room to `send` or only to `read`, or None if it can't.

    The permission of the room's own id takes precedence, and then the one of the longest matching prefix.
    """
    if room_id in connection.rooms:
        return connection.rooms[room_id]
    prefixes = [name.removesuffix(PREFIX) for name in connection.rooms if name.endswith(PREFIX)]
    longest = max((each for each in prefixes if room_id.startswith(each)), key=len, default=None)
    return None if longest is None else connection.rooms[longest + PREFIX]


def may_see(connection: Connection, player_id: str) -> bool:
    """Return whether the connection can ask if the player is online. It can: it can write to every player."""
    return True
