"""Verifies JSON Web Tokens with a shared secret or a provider's published keys.

A token's header never chooses how the token is verified. The stage's settings choose the algorithms; `kid`
only selects one of the keys at the stage's own URL; `jku`, `jwk` and `x5u` are ignored.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import boto3
import jwt
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import TypeAdapter, ValidationError

from chalicelib.core.model import Identity, RoomPermissions, TokenRefused, Unavailable
from chalicelib.core.protocol import ROOM_PATTERN, PlayerId
from chalicelib.settings import TokenSettings, fault_of_secret

TOKEN_CHARACTERS = 8192
MAX_EXPIRY = 10**11
"""The greatest `exp` accepted, in seconds since the epoch, because DynamoDB can't store every integer."""

LEEWAY_SECONDS = 5
"""The clock skew allowed between the issuer and this service."""

JWKS_SECONDS = 2.0
"""The timeout for fetching a provider's keys."""

RSA_BITS = 2048
"""The minimum key size for RS256 (RFC 7518, 3.3)."""

FETCH_INTERVAL_SECONDS = 30.0
"""The minimum time between two requests to a provider or to Parameter Store, successful or not."""

SSM_CONFIG = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})

PUBLISHED_KEYS = "the keys at JWT_JWKS_URL"
NAMED_SECRET = "the secret that JWT_SECRET_NAME names"

Header = Mapping[str, Any]
Key = Any
KeyOf = Callable[[Header], Key]
"""Returns the key that a token with this header must be signed with. Raises TokenRefused or Unavailable."""

Answer = TypeVar("Answer")

_player_ids: TypeAdapter[str] = TypeAdapter(PlayerId)


class JwtTokens:
    """Verifies tokens according to a stage's settings."""

    def __init__(self, settings: TokenSettings, key_of: KeyOf) -> None:
        self._settings = settings
        self._key_of = key_of

    def identify(self, token: str) -> Identity:
        """Return the token's player. Raises TokenRefused, and Unavailable if the key can't be read."""
        claims = self._proven_claims(token)
        expires_at = int(claims["exp"]) + LEEWAY_SECONDS
        return Identity(self._player_id(claims), expires_at, self._rooms(claims))

    def _rooms(self, claims: Mapping[str, Any]) -> RoomPermissions:
        """Return the claim's valid entries. A claim of another form grants nothing.

        It isn't refused, because a provider can use the same name for something else.
        """
        claim = claims.get(self._settings.rooms_claim)
        entries = claim.items() if isinstance(claim, dict) else ()
        return {
            room: permission
            for room, permission in entries
            if permission in ("send", "read") and re.fullmatch(ROOM_PATTERN, room)
        }

    def _player_id(self, claims: Mapping[str, Any]) -> str:
        """Return the player id from its claim. An integer becomes its decimal text. Raises TokenRefused."""
        claim = self._settings.player_claim
        value = claims.get(claim)
        try:
            return _player_ids.validate_python(str(value) if type(value) is int else value, strict=True)
        except ValidationError as invalid:
            wanted = invalid.errors(include_input=False, include_url=False)[0]["msg"]
            raise TokenRefused(f"claim '{claim}' is not a valid player id: {wanted}") from None

    def _proven_claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_CHARACTERS:
            raise TokenRefused("the token is too long")
        with _refused_on_failure():
            header = jwt.get_unverified_header(token)
        if header.get("alg") not in self._settings.algorithms or "crit" in header:
            raise TokenRefused("the token is not valid")
        key = self._key_of(header)
        with _refused_on_failure():
            return self._checked_claims(token, key)

    def _checked_claims(self, token: str, key: Key) -> dict[str, Any]:
        """Return the claims. Checks the signature and validity period, and issuer and audience if set."""
        wanted = self._settings
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(wanted.algorithms),
            issuer=wanted.issuer,
            leeway=LEEWAY_SECONDS,
            options={
                "require": ["exp"] if wanted.audience is None else ["exp", wanted.audience_claim],
                "verify_aud": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
        if int(claims["exp"]) > MAX_EXPIRY:
            raise TokenRefused("the token is not valid")
        if wanted.audience is not None and not _holds(claims[wanted.audience_claim], wanted.audience):
            raise TokenRefused("the token is for another audience")
        return claims


@contextmanager
def _refused_on_failure() -> Iterator[None]:
    """Raise TokenRefused for every error in the block, which must only process the token."""
    try:
        yield
    except jwt.ExpiredSignatureError:
        raise TokenRefused("the token has expired") from None
    except jwt.MissingRequiredClaimError as missing:
        raise TokenRefused(f"the token has no {missing.claim}") from None
    except jwt.InvalidIssuerError:
        raise TokenRefused("the token is from another issuer") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise TokenRefused("the token is not valid") from None


def _holds(claim: object, audience: str) -> bool:
    return audience in claim if isinstance(claim, list) else audience == claim


def tokens_of(settings: TokenSettings, monotonic: Callable[[], float] = time.monotonic) -> JwtTokens:
    """Return a verifier with the kind of key that the settings name."""
    if settings.jwks_url is not None:
        provider = jwt.PyJWKClient(settings.jwks_url, cache_jwk_set=False, timeout=JWKS_SECONDS)
        return JwtTokens(settings, PublishedKeys(provider.get_signing_keys, monotonic))
    if settings.secret is not None:
        return JwtTokens(settings, SecretKey(lambda: settings.secret or "", monotonic))
    return JwtTokens(settings, SecretKey(lambda: _parameter(settings.secret_name or ""), monotonic))


class Throttled(Generic[Answer]):
    """Requests a value over the network, at most once per FETCH_INTERVAL_SECONDS.

    So any number of made-up tokens cause at most one request per interval and process.
    """

    def __init__(self, name: str, ask: Callable[[], Answer], monotonic: Callable[[], float]) -> None:
        self._name = name
        self._ask = ask
        self._monotonic = monotonic
        self._asked_at: float | None = None

    def __call__(self) -> Answer:
        """Return the value. Raises Unavailable within the interval, and the request's own exceptions."""
        now = self._monotonic()
        if self._asked_at is not None and now - self._asked_at < FETCH_INTERVAL_SECONDS:
            raise Unavailable(f"{self._name}: requested less than {FETCH_INTERVAL_SECONDS:.0f} seconds ago")
        self._asked_at = now
        return self._ask()


class SecretKey:
    """One secret for all tokens. It is read once per process."""

    def __init__(self, read: Callable[[], str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._read = Throttled(NAMED_SECRET, read, monotonic)
        self._secret: bytes | None = None
        self._one_at_a_time = threading.Lock()

    def __call__(self, header: Header) -> Key:
        with self._one_at_a_time:
            if self._secret is None:
                self._secret = self._read().encode()
            return self._secret


class PublishedKeys:
    """A provider's keys by id and algorithm, cached for the life of the process.

    A token with an uncached key id makes them be fetched again, because providers rotate their keys. The
    token is refused only if freshly fetched keys lack its key. If they can't be fetched now, the provider
    might have the key, so this raises Unavailable and the client retries.
    """

    def __init__(
        self, fetch: Callable[[], Iterable[jwt.PyJWK]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = Throttled(PUBLISHED_KEYS, lambda: _by_id_and_algorithm(fetch), monotonic)
        self._keys: dict[tuple[str | None, str], jwt.PyJWK] = {}
        self._one_at_a_time = threading.Lock()

    def __call__(self, header: Header) -> Key:
        wanted = header.get("kid"), header["alg"]
        if wanted[0] is None:
            raise TokenRefused("the token has no kid")
        with self._one_at_a_time:
            if wanted not in self._keys:
                self._keys = self._fetch()
            key = self._keys.get(wanted)
        if key is None:
            raise TokenRefused("the token's key is unknown")
        if key.key_type == "RSA" and key.key.key_size < RSA_BITS:
            raise TokenRefused(
                f"the token's key has {key.key.key_size} bits: an RSA key must have at least {RSA_BITS}"
            )
        return key


def _by_id_and_algorithm(
    fetch: Callable[[], Iterable[jwt.PyJWK]],
) -> dict[tuple[str | None, str], jwt.PyJWK]:
    """Fetch the keys. Raises Unavailable for every error; PyJWT raises many kinds for malformed keys."""
    try:
        return {(key.key_id, key.algorithm_name): key for key in fetch()}
    except (
        jwt.PyJWTError,
        NotImplementedError,
        ValueError,
        OSError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as failure:
        raise Unavailable(f"{PUBLISHED_KEYS}: {type(failure).__name__}") from None


def _parameter(name: str) -> str:
    """Return the secret from Parameter Store. Raises Unavailable.

    A name that begins with /aws/reference/secretsmanager/ refers to Secrets Manager.
    """
    try:
        answer = boto3.client("ssm", config=SSM_CONFIG).get_parameter(Name=name, WithDecryption=True)
    except (ClientError, BotoCoreError, ValueError) as failure:
        raise Unavailable(f"{NAMED_SECRET}: {type(failure).__name__}") from None
    secret = str(answer["Parameter"]["Value"])
    fault = fault_of_secret(secret)
    if fault is not None:
        raise Unavailable(f"{NAMED_SECRET} {fault}")
    return secret
