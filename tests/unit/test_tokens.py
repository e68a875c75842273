"""Which player a token identifies, and which tokens are refused."""

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

from chalicelib.aws.tokens import (
    FETCH_INTERVAL_SECONDS,
    LEEWAY_SECONDS,
    JwtTokens,
    PublishedKeys,
    SecretKey,
    tokens_of,
)
from chalicelib.core.model import Identity, TokenRefused, Unavailable
from chalicelib.settings import authentication
from tests.support.tokens import (
    EC_KEY,
    FORGED,
    OTHER_RSA_KEY,
    RSA_KEY,
    SECRET,
    WEAK_RSA_KEY,
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
NO_PLAYER_ID = (
    "claim 'sub' is not a valid player id: must be a string of 1 to 128 of A-Z a-z 0-9 . _ - @ | : + ! ' / ="
)
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


def test_a_token_signed_with_the_secret_gives_player_and_expiry() -> None:
    until = int(time.time()) + 60

    assert by_secret().identify(token(sub="ann", exp=until)) == Identity("ann", until + LEEWAY_SECONDS)


@pytest.mark.parametrize(("kid", "key", "algorithm"), [("rsa", RSA_KEY, "RS256"), ("ec", EC_KEY, "ES256")])
def test_a_token_signed_with_a_published_key_gives_the_player(kid: str, key: Any, algorithm: str) -> None:
    signed = token(key, algorithm, {"kid": kid}, sub="ann")

    assert by_published_keys("RS256", "ES256").identify(signed).player_id == "ann"


def test_the_player_can_be_in_another_claim() -> None:
    named = token(sub=None, **{"custom:player": "ann"})

    assert by_secret(player_claim="custom:player").identify(named).player_id == "ann"


@pytest.mark.parametrize(
    "player_id",
    [
        "auth0|507f1f77bcf86cd799439011",
        "google-oauth2|117458932187654321098",
        "samlp|acme|o'brien@example.com",
        "us-east-1:6d1fe1ce-2f3a-4c1c-9d49-0a1c8c5f9f5e",
        "6d1fe1ce-2f3a-4c1c-9d49-0a1c8c5f9f5e",
        "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "first.last+tag@example.com",
        "o'brien@example.com",
        "idp.example!app.example!17",
        "repo:octo-org/octo-repo:environment:prod",
        "arn:aws:iam::123456789012:user/ann",
        "MTIzNDU2Nzg5MA==",
    ],
)
def test_player_ids_of_identity_providers_are_accepted_unchanged(player_id: str) -> None:
    assert by_secret().identify(token(sub=player_id)).player_id == player_id


@pytest.mark.parametrize("number", [0, 1, -5, 117458932187654321098])
def test_a_whole_number_as_the_player_claim_is_its_decimal_text(number: int) -> None:
    assert by_secret().identify(signed(claims(sub=number))).player_id == str(number)


@pytest.mark.parametrize("unasked", [{"sub": 7}, {"sub": None}, {"sub": ["x"]}, {"jti": 7}])
def test_claims_that_the_stage_does_not_check_can_have_any_value(unasked: dict[str, Any]) -> None:
    by_name = by_secret(player_claim="username")

    assert by_name.identify(signed(claims(**{"username": "ann"} | unasked))).player_id == "ann"


@pytest.mark.parametrize("audience", ["game", ["other", "game"]])
def test_issuer_and_audience_are_checked_when_they_are_set(audience: Any) -> None:
    tokens = by_secret(issuer="https://issuer.example", audience="game")

    assert tokens.identify(token(iss="https://issuer.example", aud=audience)).player_id == "1"


def test_a_token_without_an_audience_is_accepted_when_none_is_set() -> None:
    assert by_secret().identify(token(aud="whoever")).player_id == "1"


def test_the_audience_can_be_in_another_claim() -> None:
    tokens = by_secret(audience="app", audience_claim="client_id")

    assert tokens.identify(token(client_id="app", aud="whoever")).player_id == "1"
    assert refusal(tokens, token(client_id="another", aud="app")) == "the token is for another audience"
    assert refusal(tokens, token(aud="app")) == "the token has no client_id"


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
        ({"sub": None}, NO_PLAYER_ID),
        ({"sub": ""}, NO_PLAYER_ID),
        ({"sub": "a#b"}, NO_PLAYER_ID),
        ({"sub": "a b"}, NO_PLAYER_ID),
        ({"sub": "a" * 129}, NO_PLAYER_ID),
        ({"sub": "\u0430nn"}, NO_PLAYER_ID),
        ({"sub": True}, NO_PLAYER_ID),
        ({"sub": 1.0}, NO_PLAYER_ID),
        ({"sub": 10**128}, NO_PLAYER_ID),
        ({"sub": ["ann"]}, NO_PLAYER_ID),
        ({"sub": {"id": "ann"}}, NO_PLAYER_ID),
    ],
)
def test_the_refusal_of_a_wrong_claim_names_it(wrong: dict[str, Any], reason: str) -> None:
    tokens = by_secret(issuer="https://issuer.example", audience="game")
    right = {"iss": "https://issuer.example", "aud": "game"}

    assert refusal(tokens, signed(claims(**(right | wrong)))) == reason


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_or_malformed_token_is_refused_and_the_error_has_no_part_of_it(name: str) -> None:
    reason = refusal(by_secret(), FORGED[name]())

    assert reason in ("the token is not valid", "the token is too long")


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (lambda: token(OTHER_RSA_KEY, "RS256", {"kid": "rsa"}), "the token is not valid"),
        (lambda: token(RSA_KEY, "RS256", {"kid": "other"}), "the token's key is unknown"),
        (lambda: token(RSA_KEY, "RS256", {"kid": "../../dev/null"}), "the token's key is unknown"),
        (lambda: token(RSA_KEY, "RS256"), "the token has no kid"),
        (lambda: raw({"alg": "RS256", "kid": 1}, claims(), b"x"), "the token is not valid"),
        (lambda: raw({"alg": "RS256", "kid": ["rsa"]}, claims(), b"x"), "the token is not valid"),
        (lambda: token(EC_KEY, "ES256", {"kid": "ec"}), "the token is not valid"),
        (lambda: token(EC_KEY, "ES256", {"kid": "rsa"}), "the token is not valid"),
        (lambda: hs256_with_the_public_key(), "the token is not valid"),
        (
            lambda: token(OTHER_RSA_KEY, "RS256", {"kid": "x", "jku": "http://127.0.0.1:1/canary"}),
            "the token's key is unknown",
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
            "the token's key is unknown",
        ),
    ],
)
def test_a_token_cannot_choose_how_it_is_checked(forged: Callable[[], str], reason: str) -> None:
    assert refusal(by_published_keys("RS256"), forged()) == reason


def hs256_with_the_public_key() -> str:
    """Return texts of a public key, which an attacker could use as an HMAC secret."""
    return signed(claims(), {"alg": "HS256", "kid": "rsa"}, PUBLIC_PEM)


# Keys


def with_the_old_key() -> str:
    return token(RSA_KEY, "RS256", {"kid": "old"})


def with_the_new_key() -> str:
    return token(EC_KEY, "ES256", {"kid": "new"})


def with_a_made_up_key() -> str:
    return token(OTHER_RSA_KEY, "RS256", {"kid": "made-up"})


class Provider:
    """Publishes keys, and counts the fetches."""

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


def test_a_key_id_that_a_new_fetch_does_not_find_is_refused() -> None:
    provider = Provider()

    assert refusal(provider.tokens, with_a_made_up_key()) == "the token's key is unknown"


def test_made_up_key_ids_cause_one_fetch_per_pause() -> None:
    provider = Provider()
    provider.tokens.identify(with_the_old_key())
    asked = []

    for _ in range(3):
        provider.now += FETCH_INTERVAL_SECONDS
        for number in range(100):
            with pytest.raises((TokenRefused, Unavailable)):
                provider.tokens.identify(token(OTHER_RSA_KEY, "RS256", {"kid": f"made-up-{number}"}))
        asked.append(provider.asked)

    assert asked == [2, 3, 4]


def test_a_token_with_a_new_key_is_unavailable_until_the_next_fetch() -> None:
    provider = Provider()
    provider.tokens.identify(with_the_old_key())
    provider.keys = [published("new", EC_KEY)]
    provider.now += FETCH_INTERVAL_SECONDS - 1
    with pytest.raises(Unavailable, match="JWT_JWKS_URL"):
        provider.tokens.identify(with_the_new_key())
    provider.now += 1

    assert provider.tokens.identify(with_the_new_key()).player_id == "1"


def test_a_made_up_key_id_just_before_a_rotation_refuses_no_valid_token() -> None:
    provider = Provider()
    provider.tokens.identify(with_the_old_key())
    provider.now += FETCH_INTERVAL_SECONDS
    refusal(provider.tokens, with_a_made_up_key())
    provider.keys = [published("new", EC_KEY)]
    provider.now += 1
    with pytest.raises(Unavailable):
        provider.tokens.identify(with_the_new_key())
    provider.now += FETCH_INTERVAL_SECONDS

    assert provider.tokens.identify(with_the_new_key()).player_id == "1"


def test_a_token_with_a_new_key_stays_unavailable_until_a_fetch_succeeds() -> None:
    provider = Provider()
    provider.tokens.identify(with_the_old_key())
    provider.keys, provider.down = [published("new", EC_KEY)], True
    for _ in range(3):
        provider.now += FETCH_INTERVAL_SECONDS + 1
        for _ in range(2):
            with pytest.raises(Unavailable):
                provider.tokens.identify(with_the_new_key())
    provider.down = False
    provider.now += FETCH_INTERVAL_SECONDS

    assert provider.tokens.identify(with_the_new_key()).player_id == "1"


def test_an_unreachable_provider_is_unavailable_and_asked_once_per_pause() -> None:
    provider = Provider()
    provider.down = True
    for _ in range(5):
        with pytest.raises(Unavailable, match="JWT_JWKS_URL"):
            provider.tokens.identify(with_the_old_key())
    asked = provider.asked
    provider.down, provider.now = False, FETCH_INTERVAL_SECONDS

    assert (asked, provider.tokens.identify(with_the_old_key()).player_id) == (1, "1")


@pytest.mark.parametrize(
    "failure",
    [NotImplementedError("alg none"), RecursionError(), TypeError(), KeyError("n"), AttributeError()],
)
def test_a_provider_with_unusable_keys_is_unavailable(failure: Exception) -> None:
    def fetch() -> list[jwt.PyJWK]:
        raise failure

    with pytest.raises(Unavailable, match=type(failure).__name__):
        JwtTokens(with_published_keys(), PublishedKeys(fetch)).identify(with_the_old_key())


@pytest.mark.parametrize("fault", [ValueError("a bug"), TypeError("a bug"), jwt.PyJWTError("a bug")])
def test_a_bug_in_the_key_lookup_is_raised_and_not_reported_as_a_bad_token(fault: Exception) -> None:
    def key_of(header: object) -> None:
        raise fault

    with pytest.raises(type(fault), match="a bug"):
        JwtTokens(with_secret(), key_of).identify(token())


def test_tokens_with_known_keys_are_accepted_while_the_provider_is_down() -> None:
    provider = Provider()
    provider.tokens.identify(with_the_old_key())
    provider.down, provider.now = True, FETCH_INTERVAL_SECONDS
    with pytest.raises(Unavailable):
        provider.tokens.identify(with_the_new_key())

    assert provider.tokens.identify(with_the_old_key()).player_id == "1"


@pytest.mark.parametrize("order", [1, -1])
def test_keys_of_several_algorithms_can_share_a_key_id(order: int) -> None:
    provider = Provider()
    provider.keys = [
        published("old", RSA_KEY, "RS256"),
        published("old", OTHER_RSA_KEY, "RS384"),
        published("old", OTHER_RSA_KEY, "PS256"),
        published("old", EC_KEY),
    ][::order]

    assert provider.tokens.identify(with_the_old_key()).player_id == "1"
    assert provider.tokens.identify(token(EC_KEY, "ES256", {"kid": "old"})).player_id == "1"
    assert refusal(provider.tokens, token(OTHER_RSA_KEY, "RS384", {"kid": "old"})) == "the token is not valid"


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits long")
def test_a_token_signed_with_a_weak_rsa_key_is_refused_and_the_error_says_so() -> None:
    provider = Provider()
    provider.keys = [published("weak", WEAK_RSA_KEY), published("old", RSA_KEY)]

    assert (
        refusal(provider.tokens, token(WEAK_RSA_KEY, "RS256", {"kid": "weak"}))
        == "the token's key has 1024 bits: an RSA key must have at least 2048"
    )
    assert provider.tokens.identify(with_the_old_key()).player_id == "1"


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
    ("app", "reason"),
    [
        ({"iss": "https://tenant", "aud": "another game"}, "the token is for another audience"),
        ({"iss": "https://another tenant", "aud": "game"}, "the token is from another issuer"),
        ({"iss": "https://tenant"}, "the token has no aud"),
        ({"aud": "game"}, "the token has no iss"),
    ],
)
def test_a_token_that_the_provider_signed_for_another_app_or_tenant_is_refused(
    jwks: Callable[[int, bytes], str], app: dict[str, str], reason: str
) -> None:
    url = jwks(200, json.dumps({"keys": [described(RSA_KEY) | {"kid": "k", "use": "sig"}]}).encode())
    environ = {"JWT_JWKS_URL": url, "JWT_ISSUER": "https://tenant", "JWT_AUDIENCE": "game"}
    chosen = authentication(environ)[1]
    assert chosen is not None
    tokens = tokens_of(chosen)
    good = token(RSA_KEY, "RS256", {"kid": "k"}, iss="https://tenant", aud="game")

    assert refusal(tokens, token(RSA_KEY, "RS256", {"kid": "k"}, **app)) == reason
    assert tokens.identify(good).player_id == "1"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (503, b""),
        (302, b""),
        (200, b"{"),
        (200, b"[]"),
        (200, b"[" * 100_000),
        (200, b"{}"),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [{"kty": "RSA", "alg": ["RS256"]}]}'),
    ],
)
def test_an_invalid_key_set_is_unavailable(
    jwks: Callable[[int, bytes], str], status: int, body: bytes
) -> None:
    tokens = tokens_of(settings(jwks_url=jwks(status, body), algorithms=("RS256",)))

    with pytest.raises(Unavailable):
        tokens.identify(token(RSA_KEY, "RS256", {"kid": "k"}))


class ParameterStore:
    """Answers Parameter Store's requests without a network, and records them."""

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


def test_a_secret_is_read_by_its_name_once_and_decrypted(parameters: ParameterStore) -> None:
    tokens = tokens_of(settings(secret_name="/game/jwt-secret", algorithms=("HS256",)))

    assert [tokens.identify(token()).player_id for _ in range(3)] == ["1"] * 3
    assert parameters.asked == [{"Name": "/game/jwt-secret", "WithDecryption": True}]


def test_parameter_store_at_a_malformed_url_is_unavailable(
    parameters: ParameterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "localhost:1")
    tokens = tokens_of(settings(secret_name="/game/jwt-secret", algorithms=("HS256",)))

    with pytest.raises(Unavailable, match="JWT_SECRET_NAME names: ValueError"):
        tokens.identify(token())


def test_an_unreadable_secret_is_unavailable_and_read_once_per_pause(
    parameters: ParameterStore,
) -> None:
    now = [0.0]
    tokens = tokens_of(settings(secret_name="/game/jwt-secret", algorithms=("HS256",)), lambda: now[0])
    parameters.status = 400
    for junk in (token(), token("canary" * 10), token(), token()):
        with pytest.raises(Unavailable, match="JWT_SECRET_NAME"):
            tokens.identify(junk)
    asked = len(parameters.asked)
    parameters.status, now[0] = 200, FETCH_INTERVAL_SECONDS

    assert (asked, tokens.identify(token()).player_id) == (1, "1")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("canary", "must have at least 32 bytes"),
        (SECRET + "\n", "begins or ends with white space"),
        (SECRET + "\r\n", "begins or ends with white space"),
        (" " + SECRET, "begins or ends with white space"),
    ],
)
def test_an_unusable_secret_is_unavailable_until_it_is_corrected(
    parameters: ParameterStore, value: str, fault: str
) -> None:
    now = [0.0]
    tokens = tokens_of(settings(secret_name="/game/jwt-secret", algorithms=("HS256",)), lambda: now[0])
    parameters.value = value
    with pytest.raises(Unavailable, match=f"JWT_SECRET_NAME names {fault}") as caught:
        tokens.identify(token())
    assert "canary" not in str(caught.value)
    parameters.value, now[0] = SECRET, FETCH_INTERVAL_SECONDS

    assert tokens.identify(token()).player_id == "1"
