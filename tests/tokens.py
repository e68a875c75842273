"""Tokens for the tests, good and bad: each is remembered, so that logs can be searched for it."""

import json
import time
from base64 import urlsafe_b64encode
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chalicelib.settings import TokenSettings

SECRET = "canary-secret-of-32-bytes-or-more"
MADE: set[str] = set()

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def made(token: str) -> str:
    MADE.add(token)
    return token


def claims(**further: Any) -> dict[str, Any]:
    """What a good token says; a claim that is None is left out."""
    said = {"sub": "1", "exp": int(time.time()) + 3600} | further
    return {name: value for name, value in said.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **further: Any) -> str:
    return made(jwt.encode(claims(**further), key, algorithm, headers))


def raw(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, signature: bytes = b"") -> str:
    """A token of any parts, signed or not."""
    parts = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in (header, payload)]
    return made(".".join(urlsafe_b64encode(p).rstrip(b"=").decode() for p in (*parts, signature)))


def signed(
    payload: dict[str, Any], header: dict[str, Any] | None = None, secret: bytes = SECRET.encode()
) -> str:
    """A token with claims that a library would not sign."""
    header = header or {"alg": "HS256"}
    unsigned = raw(header, payload).rpartition(".")[0]
    hs256 = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return raw(header, payload, hs256.sign(unsigned.encode(), secret))


def with_secret(**further: Any) -> TokenSettings:
    return settings(secret=SECRET, algorithms=("HS256",), **further)


def with_published_keys(*algorithms: str, **further: Any) -> TokenSettings:
    return settings(jwks_url="https://issuer.example/jwks", algorithms=algorithms or ("RS256",), **further)


def settings(**given: Any) -> TokenSettings:
    nothing: dict[str, Any] = dict.fromkeys(("secret", "secret_name", "jwks_url", "issuer", "audience"))
    return TokenSettings(**(nothing | {"player_claim": "sub"} | given))


def described(key: Any) -> dict[str, Any]:
    """The public half of a key, as a JSON Web Key."""
    elliptic = isinstance(key, ec.EllipticCurvePrivateKey)
    kind = jwt.algorithms.ECAlgorithm if elliptic else jwt.algorithms.RSAAlgorithm
    public: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    return public


def published(kid: str, key: Any) -> jwt.PyJWK:
    """A public key as a provider publishes it."""
    return jwt.PyJWK({**described(key), "kid": kid, "use": "sig"})
