"""JSON Web Tokens: whose they are, proved by a shared secret or by a provider's published keys.

Nothing that a token says about itself chooses how it is checked: the algorithms are the stage's, its `kid`
is looked up among the keys of the stage's own URL, and `jku`, `jwk` and `x5u` are not looked at.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import boto3
import jwt
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import TypeAdapter, ValidationError

from chalicelib.ports import Identity, TokenRefused, Unavailable
from chalicelib.protocol import PlayerId
from chalicelib.settings import SECRET_BYTES, TokenSettings

TOKEN_CHARACTERS = 8192
END_OF_TIME = 10**11
"""No token is valid for more than three thousand years; beyond that, no table takes the number."""

LEEWAY_SECONDS = 5
"""By how much the issuer's clock may differ from ours."""

JWKS_SECONDS = 2.0
"""How long a provider may take to hand out its keys."""

FETCH_AGAIN_SECONDS = 30.0
"""A provider is not asked for its keys again before that, whatever tokens come and whatever it said."""

SSM_CONFIG = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})

Key = Any
KeyOf = Callable[[object], Key]
"""The key that a token with this `kid` must be signed with; raises TokenRefused or Unavailable."""

_player_ids: TypeAdapter[str] = TypeAdapter(PlayerId)


class JwtTokens:
    """Tokens as a stage's settings say they must be."""

    def __init__(self, settings: TokenSettings, key_of: KeyOf) -> None:
        self._settings = settings
        self._key_of = key_of

    def identify(self, token: str) -> Identity:
        """Raises TokenRefused, and Unavailable when the key cannot be had."""
        claims = self._proven_claims(token)
        claim = self._settings.player_claim
        try:
            player_id = _player_ids.validate_python(claims.get(claim), strict=True)
        except ValidationError:
            raise TokenRefused(f"the token's {claim} is no player id") from None
        return Identity(player_id, int(claims["exp"]) + LEEWAY_SECONDS)

    def _proven_claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_CHARACTERS:
            raise TokenRefused("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._settings.algorithms or "crit" in header:
                raise TokenRefused("the token is not valid")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key_of(header.get("kid")),
                algorithms=list(self._settings.algorithms),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp"], "verify_aud": self._settings.audience is not None},
            )
            if int(claims["exp"]) > END_OF_TIME:
                raise TokenRefused("the token is not valid")
            return claims
        except jwt.ExpiredSignatureError:
            raise TokenRefused("the token has expired") from None
        except jwt.MissingRequiredClaimError as missing:
            raise TokenRefused(f"the token has no {missing.claim}") from None
        except jwt.InvalidAudienceError:
            raise TokenRefused("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise TokenRefused("the token is from another issuer") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise TokenRefused("the token is not valid") from None


def tokens_of(settings: TokenSettings) -> JwtTokens:
    """Tokens by whichever kind of key the settings name."""
    if settings.jwks_url is not None:
        provider = jwt.PyJWKClient(settings.jwks_url, cache_jwk_set=False, timeout=JWKS_SECONDS)
        return JwtTokens(settings, PublishedKeys(provider.get_signing_keys))
    if settings.secret is not None:
        return JwtTokens(settings, SecretKey(lambda: settings.secret or ""))
    return JwtTokens(settings, SecretKey(lambda: _parameter(settings.secret_name or "")))


class SecretKey:
    """One secret for all tokens, read once."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._secret: bytes | None = None

    def __call__(self, kid: object) -> Key:
        if self._secret is None:
            secret = self._read().encode()
            if len(secret) < SECRET_BYTES:
                raise Unavailable(f"the secret that JWT_SECRET_NAME names has less than {SECRET_BYTES} bytes")
            self._secret = secret
        return self._secret


class PublishedKeys:
    """A provider's keys by their id, kept for the life of the process.

    They are fetched again for an id that is not among them, because providers change their keys; but
    never twice within FETCH_AGAIN_SECONDS, so that made-up ids cannot make us fetch without end.
    """

    def __init__(
        self, fetch: Callable[[], Iterable[jwt.PyJWK]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._asked_at: float | None = None
        self._one_at_a_time = threading.Lock()

    def __call__(self, kid: object) -> Key:
        if not isinstance(kid, str):
            raise TokenRefused("the token names no key")
        with self._one_at_a_time:
            if kid not in self._keys:
                self._fetch_again()
            if kid in self._keys:
                return self._keys[kid]
            if not self._keys:
                raise Unavailable("the keys at JWT_JWKS_URL cannot be had")
        raise TokenRefused("the token's key is not known")

    def _fetch_again(self) -> None:
        now = self._monotonic()
        if self._asked_at is not None and now - self._asked_at < FETCH_AGAIN_SECONDS:
            return
        self._asked_at = now
        try:
            self._keys = {key.key_id: key for key in self._fetch()}
        except (jwt.PyJWTError, NotImplementedError, ValueError, OSError) as failure:
            raise Unavailable(f"the keys at JWT_JWKS_URL: {type(failure).__name__}") from None


def _parameter(name: str) -> str:
    """From Parameter Store, which hands out what Secrets Manager has as /aws/reference/secretsmanager/…"""
    try:
        answer = boto3.client("ssm", config=SSM_CONFIG).get_parameter(Name=name, WithDecryption=True)
    except (ClientError, BotoCoreError) as failure:
        raise Unavailable(f"the secret that JWT_SECRET_NAME names: {type(failure).__name__}") from None
    return str(answer["Parameter"]["Value"])
