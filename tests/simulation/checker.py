"""Checks the guarantees: the fate of each message, and whether each open socket can be reached."""

from collections.abc import Iterable

from chalicelib.core.model import ROOM, Message
from tests.simulation.devices import Device, Sent
from tests.simulation.room_checker import judge_rooms
from tests.simulation.verdict import Verdict
from tests.simulation.world import MESSAGE_SECONDS, World


def judge(world: World, devices: list[Device]) -> Verdict:
    """Return the verdict on a world that has settled, with each client connected."""
    verdict = Verdict()
    all_sent = {sent.text: sent for device in devices for sent in device.sent}
    history = [stored.entry for stored in world.tables.history.values()]
    index_of_text = {m.text: index for index, m in enumerate(history) if isinstance(m, Message)}
    id_of_text = {m.text: m.id for m in history if isinstance(m, Message)}
    index_of_id = {entry.id: index for index, entry in enumerate(history)}
    for sent in all_sent.values():
        if sent.to.startswith(ROOM):
            continue
        if sent.table_was_deleted:
            verdict.counts["deleted"] += 1
            continue
        recipients = [device for device in devices if device.player_id == sent.to]
        due = [each for each in recipients if _must_receive(each, sent, index_of_text, index_of_id)]
        missing = [device.name for device in due if sent.text not in device.shown]
        if not sent.acked:
            verdict.counts["unknown"] += 1
        elif missing and _has_expired(world, id_of_text.get(sent.text)):
            verdict.counts["too late"] += 1
        elif missing:
            verdict.add("lost", f"{sent.text} to {missing}")
        else:
            verdict.counts["ok"] += 1
    for device in devices:
        ordered = {
            text for text, sent in all_sent.items() if _must_receive(device, sent, index_of_text, index_of_id)
        }
        _judge_shown(verdict, device, all_sent, ordered)
    judge_rooms(verdict, world, devices, all_sent)
    if any(shard.position < len(shard.records) for shard in world.shards):
        verdict.add("stuck", "not all records were pushed")
    return verdict


def unreachable(world: World) -> Iterable[str]:
    """Yield the ids of sockets that violate reachability.

    These are open sockets that got a greeting and are registered, but aren't live and have no pending work:
    even a ping wouldn't reveal that. Sockets that were closed although no fault had happened count too.
    """
    yield from world.needlessly_closed
    for socket in world.sockets.values():
        if socket.open and socket.greeted and not world.has_pending_work(socket):
            player = world.player(socket.player_id)
            if socket.id not in player.live and socket.id in player.connections:
                yield socket.id


def _has_expired(world: World, message_id: str | None) -> bool:
    return message_id is not None and world.has_expired(message_id, -MESSAGE_SECONDS)


def _must_receive(
    device: Device, sent: Sent, index_of_text: dict[str, int], index_of_id: dict[str, int]
) -> bool:
    """Return whether the device must receive the message. A latecomer can miss those before its greeting."""
    if device.name.endswith("latecomer"):
        greeting = index_of_id.get(device.first_greeting or "", 1 << 60)
        return index_of_text.get(sent.text, -1) > greeting
    return True


def _judge_shown(verdict: Verdict, device: Device, all_sent: dict[str, Sent], ordered: set[str]) -> None:
    """Check what a device showed.

    A latecomer that reconnects can receive some messages from before its first greeting, in any order.
    """
    newest: dict[str, int] = {}
    texts: set[str] = set()
    for text in device.shown:
        sent = all_sent.get(text)
        if sent is None:
            verdict.add("never sent", f"{text} at {device.name}")
            continue
        if sent.to != device.player_id and not sent.to.startswith(ROOM):
            verdict.add("misdelivered", f"{text} at {device.name}")
        if text in texts and not sent.table_was_deleted:
            verdict.add("shown twice", f"{text} at {device.name}")
        elif sent.acked and text in ordered and not sent.table_was_deleted and not sent.to.startswith(ROOM):
            if newest.get(sent.by, -1) > sent.number:
                verdict.add("out of order", f"{text} at {device.name} after #{newest[sent.by]}")
            newest[sent.by] = max(newest.get(sent.by, -1), sent.number)
        texts.add(text)
