"""What became of every message, and whether every open socket can be reached."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from chalicelib.core.model import Message
from tests.simulation.devices import Device, Sent
from tests.simulation.world import MESSAGE_SECONDS, World

BAD = ("lost", "shown twice", "out of order", "misdelivered", "never sent", "unreachable", "expired")


@dataclass(slots=True)
class Verdict:
    """How many sends ended in each way, and a line for each that must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)

    def wrong(self, outcome: str, about: str) -> None:
        self.counts[outcome] += 1
        self.wrongs.append(f"{outcome}: {about}")


def judge(world: World, devices: list[Device]) -> Verdict:
    """Judge a world that has come to rest, with every client connected."""
    verdict = Verdict()
    all_sent = {sent.text: sent for device in devices for sent in device.sent}
    history = list(world.tables.history.values())
    places = {m.text: index for index, m in enumerate(history) if isinstance(m, Message)}
    times = {m.text: m.id for m in history if isinstance(m, Message)}
    ids = {entry.id: index for index, entry in enumerate(history)}
    for sent in all_sent.values():
        if sent.table_was_deleted:
            verdict.counts["deleted"] += 1
            continue
        owed = [d for d in devices if d.player_id == sent.to and _is_owed(d, sent, places, ids)]
        missing = [device.name for device in owed if sent.text not in device.shown]
        if not sent.acked:
            verdict.counts["unknown"] += 1
        elif missing and sent.text in times and world.has_expired(times[sent.text], -MESSAGE_SECONDS):
            verdict.counts["too late"] += 1
        elif missing:
            verdict.wrong("lost", f"{sent.text} to {missing}")
        else:
            verdict.counts["ok"] += 1
    for device in devices:
        has_order = {text for text, sent in all_sent.items() if _is_owed(device, sent, places, ids)}
        _judge_shown(verdict, device, all_sent, has_order)
    return verdict


def unreachable(world: World) -> Iterable[str]:
    """Sockets that were told they receive, are open, do not receive, and would not be told so by a ping;

    and those that were given up though nothing had failed.
    """
    yield from world.dropped_for_nothing
    for socket in world.sockets.values():
        if socket.open and socket.greeted and not world.is_about_to_work_for(socket):
            player = world.player(socket.player_id)
            if socket.id not in player.live and socket.id in player.connections:
                yield socket.id


def _is_owed(device: Device, sent: Sent, places: dict[str, int], ids: dict[str, int]) -> bool:
    """Whoever asks from the beginning is owed all, a latecomer what was stored after its first greeting."""
    if device.name.endswith("latecomer"):
        return sent.text in places and places[sent.text] > ids.get(device.first_greeting or "", 1 << 60)
    return True


def _judge_shown(verdict: Verdict, device: Device, all_sent: dict[str, Sent], has_order: set[str]) -> None:
    """A latecomer may be shown some of what was before its time when it comes again: that has no order."""
    newest: dict[str, int] = {}
    texts: set[str] = set()
    for text in device.shown:
        sent = all_sent.get(text)
        if sent is None:
            verdict.wrong("never sent", f"{text} at {device.name}")
            continue
        if sent.to != device.player_id:
            verdict.wrong("misdelivered", f"{text} at {device.name}")
        if text in texts and not sent.table_was_deleted:
            verdict.wrong("shown twice", f"{text} at {device.name}")
        elif sent.acked and text in has_order and not sent.table_was_deleted:
            if newest.get(sent.by, -1) > sent.number:
                verdict.wrong("out of order", f"{text} at {device.name} after #{newest[sent.by]}")
            newest[sent.by] = max(newest.get(sent.by, -1), sent.number)
        texts.add(text)
