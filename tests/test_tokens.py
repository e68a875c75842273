"""Whose a token is, and which tokens prove nothing."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import jwt
import pytest
from botocore.awsrequest import AWSResponse
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chalicelib.ports import Identity, TokenRefused, Unavailable
from chalicelib.tokens import (
    FETCH_AGAIN_SECONDS,
    LEEWAY_SECONDS,
    JwtTokens,
    PublishedKeys,
    SecretKey,
    tokens_of,
)
from tests.tokens import (
    EC_KEY,
    FORGED,
    OTHER_RSA_KEY,
    RSA_KEY,
    SECRET,
    claims,
    described,
    published,
    raw,
    settings,
    signed,
    token,
    with_published_keys,
    with_secret,
)

NOW = int(time.time())
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def by_secret(**further: Any) -> JwtTokens:
    return JwtTokens(with_secret(**further), SecretKey(lambda: SECRET))


def by_published_keys(*algorithms: str) -> JwtTokens:
    keys = [published("rsa", RSA_KEY), published("ec", EC_KEY)]
    return JwtTokens(with_published_keys(*algorithms), PublishedKeys(lambda: keys))


def refusal(tokens: JwtTokens, bad: str) -> str:
    with pytest.raises(TokenRefused) as caught:
        tokens.identify(bad)
    return caught.value.reason


def test_a_token_signed_with_the_secret_says_whose_it_is_and_until_when() -> None:
    until = int(time.time()) + 60

    assert by_secret().identify(token(sub="ann", exp=until)) == Identity("ann", until + LEEWAY_SECONDS)


@pytest.mark.parametrize(("kid", "key", "algorithm"), [("rsa", RSA_KEY, "RS256"), ("ec", EC_KEY, "ES256")])
def test_a_token_signed_with_a_published_key_says_whose_it_is(kid: str, key: Any, algorithm: str) -> None:
    signed = token(key, algorithm, {"kid": kid}, sub="ann")

    assert by_published_keys("RS256", "ES256").identify(signed).player_id == "ann"


def test_the_player_may_be_in_another_claim() -> None:
    named = token(sub=None, **{"custom:player": "ann"})

    assert by_secret(player_claim="custom:player").identify(named).player_id == "ann"


@pytest.mark.parametrize("audience", ["game", ["other", "game"]])
def test_issuer_and_audience_are_checked_when_they_are_set(audience: Any) -> None:
    tokens = by_secret(issuer="https://issuer.example", audience="game")

    assert tokens.identify(token(iss="https://issuer.example", aud=audience)).player_id == "1"


def test_an_audience_is_not_asked_for_when_none_is_set() -> None:
    assert by_secret().identify(token(aud="whoever")).player_id == "1"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"exp": NOW - LEEWAY_SECONDS - 1}, "the token has expired"),
        ({"exp": None}, "the token has no exp"),
        ({"exp": "soon"}, "the token is not valid"),
        ({"exp": 10**400}, "the token is not valid"),
        ({"nbf": NOW + 3600}, "the token is not valid"),
        ({"iat": NOW + 3600}, "the token is not valid"),
        ({"aud": "another"}, "the token is for another audience"),
        ({"aud": None}, "the token has no aud"),
        ({"aud": {"game": 1}}, "the token is for another audience"),
        ({"iss": "https://evil.example"}, "the token is from another issuer"),
        ({"iss": None}, "the token has no iss"),
        ({"iss": ["https://issuer.example"]}, "the token is from another issuer"),
        ({"sub": 1}, "the token is not valid"),
        ({"sub": None}, "the token's sub is no player id"),
        ({"sub": ""}, "the token's sub is no player id"),
        ({"sub": "a#b"}, "the token's sub is no player id"),
        ({"sub": "a" * 129}, "the token's sub is no player id"),
        ({"sub": "\u0430nn"}, "the token's sub is no player id"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused_and_told_which(wrong: dict[str, Any], reason: str) -> None:
    tokens = by_secret(issuer="https://issuer.example", audience="game")
    right = {"iss": "https://issuer.example", "aud": "game"}

    assert refusal(tokens, signed(claims(**(right | wrong)))) == reason


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_or_broken_token_is_refused_and_nothing_of_it_is_repeated(name: str) -> None:
    reason = refusal(by_secret(), FORGED[name]())

    assert reason in ("the token is not valid", "the token is too long")


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (lambda: token(OTHER_RSA_KEY, "RS256", {"kid": "rsa"}), "the token is not valid"),
        (lambda: token(RSA_KEY, "RS256", {"kid": "other"}), "the token's key is not known"),
        (lambda: token(RSA_KEY, "RS256", {"kid": "../../dev/null"}), "the token's key is not known"),
        (lambda: token(RSA_KEY, "RS256"), "the token names no key"),
        (lambda: raw({"alg": "RS256", "kid": 1}, claims(), b"x"), "the token is not valid"),
        (lambda: raw({"alg": "RS256", "kid": ["rsa"]}, claims(), b"x"), "the token is not valid"),
        (lambda: token(EC_KEY, "ES256", {"kid": "ec"}), "the token is not valid"),
        (lambda: token(EC_KEY, "ES256", {"kid": "rsa"}), "the token is not valid"),
        (lambda: hs256_with_the_public_key(), "the token is not valid"),
        (
            lambda: token(OTHER_RSA_KEY, "RS256", {"kid": "x", "jku": "http://127.0.0.1:1/canary"}),
            "the token's key is not known",
        ),
        (
            lambda: token(
                OTHER_RSA_KEY,
                "RS256",
                {
                    "kid": "x",
                    "jwk": described(OTHER_RSA_KEY),
                },
            ),
            "the token's key is not known",
        ),
    ],
)
def test_a_token_cannot_choose_how_it_is_checked(forged: Callable[[], str], reason: str) -> None:
    assert refusal(by_published_keys("RS256"), forged()) == reason


def hs256_with_the_public_key() -> str:
    """What is public, used as if it were the shared secret."""
    return signed(claims(), {"alg": "HS256", "kid": "rsa"}, PUBLIC_PEM)


# Keys


class Provider:
    """Publishes keys, and counts how often it was asked."""

    def __init__(self) -> None:
        self.keys = [published("old", RSA_KEY)]
        self.asked = 0
        self.now = 0.0
        self.down = False
        self.published = PublishedKeys(self.fetch, lambda: self.now)
        self.tokens = JwtTokens(with_published_keys("RS256", "ES256"), self.published)

    def fetch(self) -> list[jwt.PyJWK]:
        self.asked += 1
        if self.down:
            raise jwt.PyJWKClientConnectionError("down")
        return self.keys


def test_published_keys_are_fetched_once() -> None:
    provider = Provider()

    for _ in range(3):
        provider.tokens.identify(token(RSA_KEY, "RS256", {"kid": "old"}))

    assert provider.asked == 1


def test_made_up_key_ids_cannot_make_us_fetch_without_end() -> None:
    provider = Provider()

    for number in range(100):
        refusal(provider.tokens, token(OTHER_RSA_KEY, "RS256", {"kid": f"made-up-{number}"}))

    assert provider.asked == 1


def test_a_key_that_is_new_at_the_provider_is_found_after_a_while() -> None:
    provider = Provider()
    provider.tokens.identify(token(RSA_KEY, "RS256", {"kid": "old"}))
    provider.keys = [published("new", EC_KEY)]
    renewed = token(EC_KEY, "ES256", {"kid": "new"})
    refusal(provider.tokens, renewed)
    provider.now += FETCH_AGAIN_SECONDS

    assert provider.tokens.identify(renewed).player_id == "1"


def test_a_provider_that_is_down_is_not_the_tokens_fault_and_is_not_asked_each_time() -> None:
    provider = Provider()
    provider.down = True
    good = token(RSA_KEY, "RS256", {"kid": "old"})
    for _ in range(5):
        with pytest.raises(Unavailable, match="JWT_JWKS_URL"):
            provider.tokens.identify(good)
    asked = provider.asked
    provider.down, provider.now = False, FETCH_AGAIN_SECONDS

    assert (asked, provider.tokens.identify(good).player_id) == (1, "1")


def test_a_provider_whose_keys_make_no_sense_proves_nothing() -> None:
    def fetch() -> list[jwt.PyJWK]:
        raise NotImplementedError("alg none")

    with pytest.raises(Unavailable, match="NotImplementedError"):
        PublishedKeys(fetch)("any")


def test_a_provider_that_is_down_locks_out_nobody_whose_key_is_known() -> None:
    provider = Provider()
    good = token(RSA_KEY, "RS256", {"kid": "old"})
    provider.tokens.identify(good)
    provider.down, provider.now = True, FETCH_AGAIN_SECONDS
    with pytest.raises(Unavailable):
        provider.tokens.identify(token(EC_KEY, "ES256", {"kid": "new"}))

    assert provider.tokens.identify(good).player_id == "1"


@pytest.fixture
def jwks() -> Iterator[Callable[[int, bytes], str]]:
    """Serves one answer over HTTP and returns its URL."""
    servers: list[HTTPServer] = []

    def serve(status: int, body: bytes) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield serve
    for server in servers:
        server.shutdown()


def test_keys_are_fetched_from_the_configured_url(jwks: Callable[[int, bytes], str]) -> None:
    url = jwks(200, json.dumps({"keys": [described(RSA_KEY) | {"kid": "k", "use": "sig"}]}).encode())
    tokens = tokens_of(settings(jwks_url=url, algorithms=("RS256",)))

    assert tokens.identify(token(RSA_KEY, "RS256", {"kid": "k"})).player_id == "1"


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (302, b""), (200, b"{"), (200, b"[]"), (200, b"{}"), (200, b'{"keys": []}')],
)
def test_what_is_no_set_of_keys_proves_nothing(
    jwks: Callable[[int, bytes], str], status: int, body: bytes
) -> None:
    tokens = tokens_of(settings(jwks_url=jwks(status, body), algorithms=("RS256",)))

    with pytest.raises(Unavailable):
        tokens.identify(token(RSA_KEY, "RS256", {"kid": "k"}))


class ParameterStore:
    """Answers in place of the network, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status, self.value = 200, SECRET

    def answer(self, request: Any, **_: Any) -> AWSResponse:
        self.asked.append(json.loads(request.body))
        body = {"Parameter": {"Value": self.value}} if self.status == 200 else {"__type": "ParameterNotFound"}
        response = AWSResponse(request.url, self.status, {}, None)
        response._content = json.dumps(body).encode()
        return response


@pytest.fixture
def parameters() -> Iterator[ParameterStore]:
    store = ParameterStore()
    boto3.setup_default_session(
        aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1"
    )
    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register_first("before-send.ssm", store.answer)
    yield store
    boto3.DEFAULT_SESSION = None


def test_a_secret_is_read_by_its_name_decrypted_and_once(parameters: ParameterStore) -> None:
    tokens = tokens_of(settings(secret_name="/game/jwt-secret", algorithms=("HS256",)))

    assert [tokens.identify(token()).player_id for _ in range(3)] == ["1"] * 3
    assert parameters.asked == [{"Name": "/game/jwt-secret", "WithDecryption": True}]


def test_a_secret_that_cannot_be_read_proves_nothing_and_is_asked_for_again(
    parameters: ParameterStore,
) -> None:
    tokens = tokens_of(settings(secret_name="/game/jwt-secret", algorithms=("HS256",)))
    parameters.status = 400
    with pytest.raises(Unavailable, match="JWT_SECRET_NAME"):
        tokens.identify(token())
    parameters.status = 200

    assert tokens.identify(token()).player_id == "1"


def test_a_secret_that_is_too_short_to_be_one_proves_nothing(parameters: ParameterStore) -> None:
    tokens = tokens_of(settings(secret_name="/game/jwt-secret", algorithms=("HS256",)))
    parameters.value = "canary"

    with pytest.raises(Unavailable, match="less than 32 bytes") as caught:
        tokens.identify(token())
    assert "canary" not in str(caught.value)
