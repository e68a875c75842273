"""Records who was a member of a room and when: as the clients were told, and as the table had it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any

from chalicelib.aws.rooms import room_of
from chalicelib.core.model import Room

Item = dict[str, Any]
Moments = defaultdict[tuple[str, str], list[float]]
"""Moments of the schedule, by room id and player id."""


class Kind(Enum):
    JOIN = "join"
    REMOVAL = "removal"
    """A leave, a removal by the backend, or a ban."""
    MUTE = "mute"


@dataclass(eq=False, slots=True)
class Request:
    """A request that changes a player's membership. It has no effect before `began`, and has it by `acked`.

    Without an acknowledgement it can take effect at any time after `began`, or never.
    """

    kind: Kind
    room_id: str
    player_id: str
    began: float
    acked: float = inf


def _moments() -> Moments:
    return defaultdict(list)


@dataclass(slots=True)
class Memberships:
    """All requests of a schedule, and the moments at which the table's room items changed."""

    most_members: int
    requests: list[Request] = field(default_factory=list)
    joined: Moments = field(default_factory=_moments)
    removed: Moments = field(default_factory=_moments)
    unmuted: Moments = field(default_factory=_moments)
    violations: list[str] = field(default_factory=list)

    def request(self, kind: Kind, room_id: str, player_id: str, moment: float) -> Request:
        request = Request(kind, room_id, player_id, moment)
        self.requests.append(request)
        return request

    def record(self, room_id: str, before: Item | None, after: Item | None, moment: float) -> None:
        """Record a change of the room's item. A banned member, or one too many, is a violation."""
        old, new = room_of(room_id, before or {}), room_of(room_id, after or {})
        _append(self.joined, new, new.members - old.members, moment)
        _append(self.removed, new, old.members - new.members, moment)
        _append(self.unmuted, new, old.muted - new.muted, moment)
        if new.members & new.banned:
            self.violations.append(f"banned members {sorted(new.members & new.banned)} in {room_id}")
        if len(new.members) > self.most_members:
            self.violations.append(f"{len(new.members)} members in {room_id}")

    def must_receive(self, room_id: str, player_id: str, sent: float, copied: float) -> bool:
        """Return whether a message that was sent and copied at these moments must reach the player.

        It must if a join was acknowledged before it was sent, and no removal took effect since.
        """
        removals = [each for each in self._requests(Kind.REMOVAL, room_id, player_id) if each.began < copied]
        for join in self._requests(Kind.JOIN, room_id, player_id):
            was_removed = any(join.began <= moment < copied for moment in self.removed[room_id, player_id])
            was_asked_to = any(removal.acked >= join.began for removal in removals)
            if join.acked < sent and not (was_removed and was_asked_to):
                return True
        return False

    def joined_between(self, room_id: str, player_id: str, stored: float, copied: float) -> bool:
        """Return whether the player became a member after a message was stored and before it was copied."""
        return any(stored < moment < copied for moment in self.joined[room_id, player_id])

    def is_stranger(self, room_id: str, player_id: str, sent: float, until: float) -> bool:
        """Return whether a message that was sent and stored at these moments must not involve the player.

        It must not if the player never joined, or a removal was acknowledged before and no join took effect.
        """
        joined = [moment for moment in self.joined[room_id, player_id] if moment < until]
        return not joined or any(
            removal.acked < sent and max(joined) < removal.began
            for removal in self._requests(Kind.REMOVAL, room_id, player_id)
        )

    def is_muted(self, room_id: str, player_id: str, sent: float, until: float) -> bool:
        unmuted = [moment for moment in self.unmuted[room_id, player_id] if moment < until]
        return any(
            mute.acked < sent and max(unmuted, default=0) < mute.began
            for mute in self._requests(Kind.MUTE, room_id, player_id)
        )

    def _requests(self, kind: Kind, room_id: str, player_id: str) -> list[Request]:
        return [
            each
            for each in self.requests
            if each.kind is kind and each.room_id == room_id and each.player_id == player_id
        ]


def _append(moments: Moments, room: Room, player_ids: Iterable[str], moment: float) -> None:
    for player_id in player_ids:
        moments[room.id, player_id].append(moment)
