"""Checks the guarantees for rooms: who was shown which of their messages, and in which order."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from chalicelib.core.message_id import timestamp_of
from chalicelib.core.model import ROOM, Message, RoomMessage
from tests.simulation.devices import Device, Sent
from tests.simulation.verdict import Verdict
from tests.simulation.world import MESSAGE_SECONDS, World


@dataclass(slots=True)
class Fate:
    """What became of a message to a room. `copied`: when all members had their copies for the first time.

    `first_copies` has the moments and ids of the first copies, `last_copies` the ids of the last, both by
    player id.
    """

    place: int
    stored: float
    copied: float
    first_copies: dict[str, tuple[float, str]] = field(default_factory=dict)
    last_copies: dict[str, str] = field(default_factory=dict)


def judge_rooms(verdict: Verdict, world: World, devices: list[Device], all_sent: dict[str, Sent]) -> None:
    fates = _fates(world)
    for message in all_sent.values():
        if message.to.startswith(ROOM):
            _judge_message(verdict, world, devices, message, fates.get(message.text))
    for destination in {message.to for message in all_sent.values() if message.to.startswith(ROOM)}:
        _judge_senders_order(verdict, [each for each in all_sent.values() if each.to == destination], fates)
    for device in devices:
        shown = (all_sent[text] for text in device.shown if text in all_sent)
        _judge_shown(verdict, world, device, shown, fates)
    for about in world.memberships.violations:
        verdict.add("stranger", about)


def _fates(world: World) -> dict[str, Fate]:
    fates: dict[str, Fate] = {}
    for place, (entry, moment) in enumerate(world.tables.history.values()):
        if isinstance(entry, RoomMessage):
            fates[entry.text] = Fate(place, moment, world.copied.get(entry.id, inf))
        elif isinstance(entry, Message) and entry.room_id is not None and entry.text in fates:
            fates[entry.text].first_copies.setdefault(entry.destination_player_id, (moment, entry.id))
            fates[entry.text].last_copies[entry.destination_player_id] = entry.id
    return fates


def _judge_message(
    verdict: Verdict, world: World, devices: list[Device], message: Sent, fate: Fate | None
) -> None:
    """Check that each device of each member shows a stored message, acknowledged or not."""
    if message.table_was_deleted:
        verdict.counts["deleted"] += 1
        return
    if fate is None:
        if message.acked:
            verdict.add("lost", f"{message.text} was acknowledged and not stored")
        verdict.counts["unknown"] += not message.acked
        return
    room_id, memberships = message.to.removeprefix(ROOM), world.memberships
    due = [
        device
        for device in devices
        if memberships.must_receive(room_id, device.player_id, message.began, fate.copied)
    ]
    missing = [device for device in due if message.text not in device.shown]
    verdict.counts["due in rooms"] += len(due)
    names = [device.name for device in missing]
    if missing and all(_has_expired(world, fate, device.player_id) for device in missing):
        verdict.counts["too late"] += 1
    elif missing:
        verdict.add("lost" if message.acked else "incomplete", f"{message.text} in {room_id} to {names}")
    else:
        verdict.counts["ok" if message.acked else "unknown"] += 1
        verdict.counts["ok in rooms"] += message.acked
    sender = next(device.player_id for device in devices if device.name == message.by)
    _judge_sender(verdict, world, message, sender, fate)


def _judge_sender(verdict: Verdict, world: World, message: Sent, sender: str, fate: Fate) -> None:
    memberships, room_id = world.memberships, message.to.removeprefix(ROOM)
    if memberships.is_stranger(room_id, sender, message.began, fate.stored):
        verdict.add("stranger", f"{message.text} in {room_id} was accepted")
    if memberships.is_muted(room_id, sender, message.began, fate.stored):
        verdict.add("stranger", f"{message.text} in {room_id} was accepted from a muted player")


def _judge_senders_order(verdict: Verdict, messages: list[Sent], fates: dict[str, Fate]) -> None:
    """Check that a room stored each sender's acknowledged messages in the order in which they were sent."""
    newest: dict[str, int] = {}
    for message in messages:
        if message.acked and not message.table_was_deleted and message.text in fates:
            place = fates[message.text].place
            if place < newest.get(message.by, -1):
                verdict.add("out of order", f"{message.text} was stored before an earlier message")
            newest[message.by] = place


def _judge_shown(
    verdict: Verdict, world: World, device: Device, shown: Iterable[Sent], fates: dict[str, Fate]
) -> None:
    """Check that the device showed each room's messages in the room's order, and only to a member.

    A redelivered batch can bring a new member messages from before the join. It can also bring a message
    again whose first copy has expired. These have no order.
    """
    newest: dict[str, int] = {}
    for message in shown:
        if not message.to.startswith(ROOM) or message.table_was_deleted:
            continue
        room_id, fate = message.to.removeprefix(ROOM), fates.get(message.text)
        if fate is None or device.player_id not in fate.first_copies:
            verdict.add("never sent", f"{message.text} at {device.name}")
            continue
        copied, copy_id = fate.first_copies[device.player_id]
        if world.memberships.is_stranger(room_id, device.player_id, message.began, copied):
            verdict.add("stranger", f"{message.text} in {room_id} was shown to {device.name}")
        age_seconds = device.shown_at[message.text] - timestamp_of(copy_id) / 1000
        is_of_before_join = world.memberships.joined_between(room_id, device.player_id, fate.stored, copied)
        if is_of_before_join or age_seconds > world.retention_seconds:
            continue
        if fate.place < newest.get(room_id, -1):
            verdict.add("out of order", f"{message.text} in {room_id} at {device.name}")
        newest[room_id] = max(newest.get(room_id, -1), fate.place)


def _has_expired(world: World, fate: Fate, player_id: str) -> bool:
    last = fate.last_copies.get(player_id)
    return last is not None and world.has_expired(last, -MESSAGE_SECONDS)
