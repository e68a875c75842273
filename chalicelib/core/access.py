"""Who may connect: from where, and as whom."""

from collections.abc import Callable
from dataclasses import dataclass, field

from chalicelib.core.handshake import Handshake, HandshakeRejected
from chalicelib.core.ports import Identity, TokenRefused, Tokens

NOT_CONFIGURED = (
    "nobody can connect: set AUTH_MODE to jwt, with JWT_SECRET_NAME or JWT_JWKS_URL, or to open, "
    "under the stage's environment_variables in .chalice/config.json"
)

TOKEN_NEEDED = (
    "a token is needed: Authorization: Bearer <token>, the subprotocol bearer.<token>, or ?token=<token>"
)


@dataclass(frozen=True, slots=True)
class Access:
    """The rule of a stage. Without `tokens`, and not `is_open` either, it lets in nobody.

    `tokens` is called at the first token, because what reads tokens takes long to load.
    """

    is_open: bool
    tokens: Callable[[], Tokens] | None = None
    allowed_origins: frozenset[str] = field(default_factory=frozenset)

    def identify(self, handshake: Handshake) -> Identity:
        """Raises HandshakeRejected, and Unavailable when the keys that prove tokens cannot be had."""
        if self.allowed_origins and handshake.origin not in self.allowed_origins:
            raise HandshakeRejected(403, "this origin is not allowed")
        if self.is_open:
            if handshake.player_id is None:
                raise HandshakeRejected(400, "playerId: Field required")
            return Identity(handshake.player_id)
        if self.tokens is None:
            raise HandshakeRejected(401, "this service is not set up to let anybody connect")
        if len(handshake.tokens) > 1:
            raise HandshakeRejected(401, "more than one token")
        if not any(handshake.tokens):
            raise HandshakeRejected(401, TOKEN_NEEDED)
        return _proven(self.tokens(), handshake.tokens[0], handshake.player_id)

    def in_words(self) -> str:
        """For the log, at the start."""
        if self.is_open:
            return "open: whoever connects as a player is that player"
        return "jwt: players are who their tokens say" if self.tokens is not None else NOT_CONFIGURED


def _proven(tokens: Tokens, token: str, player_id: str | None) -> Identity:
    try:
        identity = tokens.identify(token)
    except TokenRefused as refused:
        raise HandshakeRejected(401, refused.reason) from None
    if player_id not in (None, identity.player_id):
        raise HandshakeRejected(403, "playerId is not the token's player")
    return identity
