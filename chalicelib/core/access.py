"""Decides whether a client can connect: its origin, and the player that it connects as."""

from collections.abc import Callable
from dataclasses import dataclass, field

from chalicelib.core.handshake import Handshake, HandshakeRejected
from chalicelib.core.model import EVERY_ROOM, Identity, TokenRefused
from chalicelib.core.ports import Tokens

NOT_CONFIGURED = (
    "every connection is refused: set AUTH_MODE to open, or to jwt with JWT_SECRET_NAME or JWT_JWKS_URL, "
    "in the stage's environment_variables in .chalice/config.json"
)

TOKEN_NEEDED = (
    "a token is required: send Authorization: Bearer <token>, the subprotocol bearer.<token>, "
    "or ?token=<token>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A stage's access rule. It refuses every connection if it is not `is_open` and has no `tokens`.

    `tokens` is a function because importing the token library is slow: it is called at the first token.
    """

    is_open: bool
    tokens: Callable[[], Tokens] | None = None
    allowed_origins: frozenset[str] = field(default_factory=frozenset)

    def identify(self, handshake: Handshake) -> Identity:
        """Return the player that connects. Raises HandshakeRejected, and Unavailable without the keys."""
        if self.allowed_origins and handshake.origin not in self.allowed_origins:
            raise HandshakeRejected(403, "this origin is not allowed")
        if self.is_open:
            if handshake.player_id is None:
                raise HandshakeRejected(400, "playerId: Field required")
            return Identity(handshake.player_id, rooms=EVERY_ROOM)
        if self.tokens is None:
            raise HandshakeRejected(401, "this stage has no authentication settings")
        if len(handshake.tokens) > 1:
            raise HandshakeRejected(401, "more than one token was sent")
        if not any(handshake.tokens):
            raise HandshakeRejected(401, TOKEN_NEEDED)
        return _proven(self.tokens(), handshake.tokens[0], handshake.player_id)

    def in_words(self) -> str:
        """Describe the rule for the log line at start-up."""
        if self.is_open:
            return "open: any client can connect as any player"
        return "jwt: a token identifies the player" if self.tokens is not None else NOT_CONFIGURED


def _proven(tokens: Tokens, token: str, player_id: str | None) -> Identity:
    try:
        identity = tokens.identify(token)
    except TokenRefused as refused:
        raise HandshakeRejected(401, refused.reason) from None
    if player_id not in (None, identity.player_id):
        raise HandshakeRejected(403, "playerId differs from the token's player")
    return identity
