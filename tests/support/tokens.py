"""Valid and invalid tokens. Each is recorded, so that the logs can be searched for it."""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chalicelib.settings import TokenSettings

SECRET = "canary-secret-of-32-bytes-or-more"
MADE: set[str] = set()

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def made(token: str) -> str:
    MADE.add(token)
    return token


def claims(**further: Any) -> dict[str, Any]:
    """Return the claims of a valid token, changed by `further`. A claim that is None is left out."""
    said = {"sub": "1", "exp": int(time.time()) + 3600} | further
    return {name: value for name, value in said.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **further: Any) -> str:
    return made(jwt.encode(claims(**further), key, algorithm, headers))


def bearing(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def raw(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, signature: bytes = b"") -> str:
    """Return a token with these parts."""
    parts = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in (header, payload)]
    return made(".".join(urlsafe_b64encode(p).rstrip(b"=").decode() for p in (*parts, signature)))


def signed(
    payload: dict[str, Any], header: dict[str, Any] | None = None, secret: bytes = SECRET.encode()
) -> str:
    """Return a correctly signed token with claims that a library refuses to sign."""
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
    return TokenSettings(
        **(nothing | {"audience_claim": "aud", "player_claim": "sub", "rooms_claim": "rooms"} | given)
    )


def described(key: Any) -> dict[str, Any]:
    """Return the public half of a key as a JSON Web Key."""
    elliptic = isinstance(key, ec.EllipticCurvePrivateKey)
    kind = jwt.algorithms.ECAlgorithm if elliptic else jwt.algorithms.RSAAlgorithm
    public: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    return public


def published(kid: str, key: Any, algorithm: str | None = None) -> jwt.PyJWK:
    """Return a public key as a provider publishes it, with or without its algorithm."""
    named = {} if algorithm is None else {"alg": algorithm}
    return jwt.PyJWK({**described(key), **named, "kid": kid, "use": "sig"})


FORGED: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "one part": lambda: made("canary"),
    "three empty parts": lambda: "..",
    "no base64": lambda: made("!canary!.!!.!!"),
    "not ascii": lambda: made("canary\u0430.b.c"),
    "a lone surrogate": lambda: "\ud800.b.c",
    "a header that is no object": lambda: raw(b"[]", claims()),
    "a deep header": lambda: raw(b"[" * 3000, claims()),
    "a header with a huge number": lambda: raw(b'{"alg":' + b"9" * 5000 + b"}", claims()),
    "unsigned": lambda: token().rpartition(".")[0] + ".",
    "alg none": lambda: raw({"alg": "none"}, claims()),
    "alg None": lambda: raw({"alg": "None"}, claims()),
    "alg in a list": lambda: raw({"alg": ["HS256"]}, claims()),
    "alg missing": lambda: raw({"typ": "JWT"}, claims()),
    "another alg": lambda: token("canary" * 20, "HS512"),
    "another secret": lambda: token("canary" * 10),
    "flipped in the claims": lambda: flipped(token(), 1),
    "flipped in the signature": lambda: flipped(token(), 2),
    "claims of another token": lambda: swapped(token(sub="1"), token(sub="2")),
    "claims that are no object": lambda: raw({"alg": "HS256"}, b"[]", b"x"),
    "critical": lambda: token(headers={"crit": ["exp"], "exp": 1}),
    "detached": lambda: token(headers={"crit": ["b64"], "b64": False}),
    "too long": lambda: token(padding="canary" * 2000),
    "nul": lambda: made(token()[:-1] + "\0"),
}


def flipped(good: str, part: int) -> str:
    """Change the first character of one part. The last one can have unused bits."""
    parts = good.split(".")
    parts[part] = ("A" if parts[part][0] != "A" else "B") + parts[part][1:]
    return made(".".join(parts))


def swapped(first: str, second: str) -> str:
    head, _, signature = first.split(".")
    return made(f"{head}.{second.split('.')[1]}.{signature}")
