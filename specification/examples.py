"""Examples of every frame from a client, from the service, and from API Gateway."""

from typing import Any

from chalicelib.core.protocol import FrameError
from chalicelib.core.service_frames import (
    Ack,
    Closing,
    Connected,
    Error,
    Joined,
    Left,
    MessageFrame,
    PlayerPresence,
    Pong,
    PresenceFrame,
    RoomMembers,
    ServiceFrame,
    SignalFrame,
    Synced,
)

MESSAGE_ID = "01a20f0f-953e-7746-8ca2-a7d9c77596d3"
COPY_ID = "01a20f0f-95bb-7c31-9d10-52f0a9c7b1e4"
SENT_AT = 1_795_548_419_390

FROM_CLIENT: dict[str, dict[str, Any]] = {
    "sendmessage": {
        "action": "sendmessage",
        "destinationPlayerId": "2",
        "message": "Hello!",
        "clientMessageId": "0b8d1c4e-6f0f-4a39-9d0b-6a2f1f6a1c55",
        "ackId": 1,
    },
    "sync": {"action": "sync", "after": MESSAGE_ID, "ackId": 3},
    "ping": {"action": "ping", "ackId": "2"},
    "join": {"action": "join", "roomId": "lobby", "ackId": 4},
    "leave": {"action": "leave", "roomId": "lobby", "ackId": 5},
    "members": {"action": "members", "roomId": "lobby", "ackId": 6},
    "signal": {"action": "signal", "destinationPlayerId": "2", "data": '{"typing": true}'},
    "presence": {"action": "presence", "playerIds": ["2", "3"], "ackId": 7},
}

TO_CLIENT: dict[str, ServiceFrame] = {
    "connected": Connected(
        connection_id="73a8JwDb8h643l8=", player_id="2", message_id=MESSAGE_ID, replayed=0
    ),
    "message": MessageFrame(
        message="Hello!",
        message_id=MESSAGE_ID,
        src_player_id="1",
        destination_player_id="2",
        sent_at=SENT_AT,
    ),
    "ack": Ack(
        message_id=MESSAGE_ID,
        message="Hello!",
        src_player_id="1",
        destination_player_id="2",
        sent_at=SENT_AT,
        ack_id=1,
    ),
    "synced": Synced(message_id=MESSAGE_ID, replayed=50, more=True, ack_id=3),
    "pong": Pong(ack_id="2"),
    "joined": Joined(room_id="lobby", members=2, ack_id=4),
    "left": Left(room_id="lobby", ack_id=5),
    "roomMembers": RoomMembers(room_id="lobby", members=["1", "2"], ack_id=6),
    "presenceOfPlayers": PresenceFrame(
        players=[
            PlayerPresence(player_id="2", online=True, last_seen_at=SENT_AT),
            PlayerPresence(player_id="3", online=False),
        ],
        ack_id=7,
    ),
    "signalled": SignalFrame(data='{"typing": true}', src_player_id="1"),
    "closing": Closing(reason="kicked"),
    "error": Error.of(FrameError("rate_limited", "too many frames", retry_after_ms=50), ack_id=1),
}

FURTHER: dict[str, list[dict[str, Any]]] = {
    "sendmessage": [{"action": "sendmessage", "roomId": "lobby", "message": "Hello!", "ackId": 1}],
    "join": [{"action": "join", "roomId": "lobby", "presence": True, "ackId": 4}],
    "signal": [{"action": "signal", "roomId": "lobby", "data": '{"typing": true}'}],
    "signalled": [{"type": "signal", "data": '{"typing": true}', "srcPlayerId": "1", "roomId": "lobby"}],
    "roomMembers": [
        {"type": "members", "roomId": "lobby", "members": ["1", "2"], "online": {"2": SENT_AT}, "ackId": 6}
    ],
    "presenceOfPlayers": [
        {
            "type": "presence",
            "roomId": "lobby",
            "players": [{"playerId": "2", "member": True, "online": False, "lastSeenAt": SENT_AT}],
        }
    ],
    "closing": [{"type": "closing", "reason": "banned", "until": SENT_AT}],
    "message": [
        {
            "type": "message",
            "message": "Hello!",
            "messageId": MESSAGE_ID,
            "position": COPY_ID,
            "roomId": "lobby",
            "srcPlayerId": "1",
            "destinationPlayerId": "2",
            "sentAt": SENT_AT,
        }
    ],
    "ack": [
        {
            "type": "ack",
            "status": "Message sent!",
            "messageId": MESSAGE_ID,
            "message": "Hello!",
            "srcPlayerId": "1",
            "roomId": "lobby",
            "sentAt": SENT_AT,
            "ackId": 1,
        }
    ],
}
"""Further examples: frames in rooms, and frames with optional keys."""

FROM_GATEWAY = {
    "message": "Internal server error",
    "connectionId": "73a8JwDb8h643l8=",
    "requestId": "3q87u-ZuCcRgSIQ=",
}
