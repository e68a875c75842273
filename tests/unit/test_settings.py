"""Which settings are valid, and the errors for the others."""

import pytest

from chalicelib.settings import Settings, SettingsError, TokenSettings

TABLES = {"WEBSOCKETS_TABLE": "w", "MESSAGES_TABLE": "m"}
SECRET = "canary-secret-of-32-bytes-or-more"
URL = "https://issuer.example/.well-known/jwks.json"
ISSUER = "JWT_ISSUER, the iss of your players' tokens"
AUDIENCE = (
    "JWT_AUDIENCE, their aud, or the value of the claim that JWT_AUDIENCE_CLAIM names "
    "(client_id in Cognito's access tokens)"
)


def settings(**environ: str) -> Settings:
    return Settings.from_environment(TABLES | environ)


def refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(**environ)
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("missing", ["WEBSOCKETS_TABLE", "MESSAGES_TABLE"])
def test_the_error_for_a_missing_setting_says_where_to_set_it(missing: str) -> None:
    said = refusal(**{missing: ""})

    assert said.startswith(f"{missing} is not set: ")
    assert ".chalice/config.json" in said


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("MESSAGE_RETENTION_DAYS", 1, 3650),
        ("MAX_MESSAGE_BYTES", 1024, 131072),
        ("MESSAGES_PER_SECOND", 1, 1000),
        ("MESSAGE_BURST", 1, 10000),
        ("CONNECTIONS_PER_PLAYER", 1, 100),
    ],
)
def test_the_error_for_a_number_out_of_range_has_the_range(name: str, smallest: int, largest: int) -> None:
    field = name.lower()

    assert getattr(settings(**{name: str(smallest)}), field) == smallest
    assert getattr(settings(**{name: str(largest)}), field) == largest
    for wrong in (str(smallest - 1), str(largest + 1), "-1", "7.5", "many", "\u0667", " 7", "9" * 400):
        assert refusal(**{name: wrong}).startswith(f"{name} must be a whole number of ")
        assert refusal(**{name: wrong}).endswith(f"from {smallest} to {largest}")


def test_a_stage_without_authentication_settings_is_closed() -> None:
    assert (settings().is_open, settings().tokens) == (False, None)


def test_a_stage_is_open_only_with_auth_mode_open() -> None:
    assert settings(AUTH_MODE="open").is_open


@pytest.mark.parametrize("mode", [{}, {"AUTH_MODE": "jwt"}])
def test_a_stage_with_a_key_is_not_open(mode: dict[str, str]) -> None:
    assert not settings(JWT_SECRET=SECRET, **mode).is_open
    assert settings(JWT_SECRET=SECRET, **mode).tokens == TokenSettings(
        SECRET, None, None, ("HS256",), None, None, "aud", "sub", "rooms"
    )


def test_all_token_settings_are_read() -> None:
    chosen = settings(
        JWT_JWKS_URL=URL,
        JWT_ALGORITHMS="ES256, RS256",
        JWT_ISSUER="https://issuer.example",
        JWT_AUDIENCE="game",
        JWT_AUDIENCE_CLAIM="client_id",
        JWT_PLAYER_CLAIM="custom:player",
        JWT_ROOMS_CLAIM="acl",
    ).tokens

    assert chosen == TokenSettings(
        None,
        None,
        URL,
        ("ES256", "RS256"),
        "https://issuer.example",
        "game",
        "client_id",
        "custom:player",
        "acl",
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, f"JWT_JWKS_URL needs {ISSUER}, and {AUDIENCE}"),
        ({"JWT_ISSUER": "https://issuer.example"}, f"JWT_JWKS_URL needs {AUDIENCE}"),
        ({"JWT_AUDIENCE": "game"}, f"JWT_JWKS_URL needs {ISSUER}"),
        ({"JWT_ISSUER": "i", "JWT_AUDIENCE": ""}, f"JWT_JWKS_URL needs {AUDIENCE}"),
        ({"JWT_ISSUER": "i", "JWT_AUDIENCE_CLAIM": "client_id"}, f"JWT_JWKS_URL needs {AUDIENCE}"),
    ],
)
def test_published_keys_need_an_issuer_and_an_audience(given: dict[str, str], said: str) -> None:
    assert refusal(JWT_JWKS_URL=URL, **given) == said


@pytest.mark.parametrize("secret", [f"{SECRET}\n", f"{SECRET}\r\n", f" {SECRET}", f"{'s' * 31}\n"])
def test_a_secret_with_white_space_around_it_is_refused(secret: str) -> None:
    assert refusal(JWT_SECRET=secret) == (
        "JWT_SECRET begins or ends with white space, such as a pasted line break: store it without"
    )


def test_a_secret_that_is_not_utf_8_is_refused() -> None:
    assert refusal(JWT_SECRET=f"{SECRET}\udcff") == "JWT_SECRET must be UTF-8"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"AUTH_MODE": "none"}, "AUTH_MODE must be jwt or open"),
        ({"AUTH_MODE": "OPEN"}, "AUTH_MODE must be jwt or open"),
        (
            {"AUTH_MODE": "jwt"},
            "AUTH_MODE=jwt needs one of JWT_SECRET, JWT_SECRET_NAME, JWT_JWKS_URL",
        ),
        (
            {"JWT_ISSUER": "https://issuer.example"},
            "AUTH_MODE=jwt needs one of JWT_SECRET, JWT_SECRET_NAME, JWT_JWKS_URL",
        ),
        (
            {"AUTH_MODE": "open", "JWT_SECRET": SECRET},
            "AUTH_MODE=open contradicts JWT_SECRET: remove one",
        ),
        (
            {"AUTH_MODE": "open", "JWT_AUDIENCE": "a"},
            "AUTH_MODE=open contradicts JWT_AUDIENCE: remove one",
        ),
        (
            {"JWT_SECRET": SECRET, "JWT_JWKS_URL": URL},
            "JWT_SECRET contradicts JWT_JWKS_URL: remove one",
        ),
        (
            {"JWT_SECRET": SECRET, "JWT_AUDIENCE_CLAIM": "client_id"},
            "JWT_AUDIENCE_CLAIM needs JWT_AUDIENCE, the value that the claim must have",
        ),
        (
            {"AUTH_MODE": "open", "JWT_AUDIENCE_CLAIM": "client_id"},
            "AUTH_MODE=open contradicts JWT_AUDIENCE_CLAIM: remove one",
        ),
        (
            {"JWT_SECRET": SECRET, "JWT_PLAYER_CLAIM": "iat"},
            "JWT_PLAYER_CLAIM must be a claim that identifies the player, not iat",
        ),
        (
            {"JWT_SECRET": SECRET, "JWT_SECRET_NAME": "/s"},
            "JWT_SECRET contradicts JWT_SECRET_NAME: remove one",
        ),
        (
            {"JWT_SECRET": "short"},
            "JWT_SECRET must have at least 32 bytes: generate one with openssl rand -hex 32",
        ),
        (
            {"JWT_SECRET": SECRET, "JWT_ALGORITHMS": "none"},
            "JWT_ALGORITHMS with JWT_SECRET can only contain HS256",
        ),
        (
            {"JWT_SECRET": SECRET, "JWT_ALGORITHMS": "RS256"},
            "JWT_ALGORITHMS with JWT_SECRET can only contain HS256",
        ),
        (
            {"JWT_JWKS_URL": URL, "JWT_ISSUER": "i", "JWT_AUDIENCE": "a", "JWT_ALGORITHMS": "RS256,HS256"},
            "JWT_ALGORITHMS with JWT_JWKS_URL can only contain RS256, ES256",
        ),
        ({"JWT_JWKS_URL": "http://issuer.example/jwks"}, "JWT_JWKS_URL must be an https URL"),
        ({"JWT_JWKS_URL": "file:///etc/passwd"}, "JWT_JWKS_URL must be an https URL"),
        ({"JWT_JWKS_URL": "https://"}, "JWT_JWKS_URL must be an https URL"),
        ({"JWT_JWKS_URL": "https://[::1"}, "JWT_JWKS_URL must be an https URL"),
    ],
)
def test_contradictory_or_incomplete_settings_are_named(environ: dict[str, str], said: str) -> None:
    assert refusal(**environ) == said


def test_plain_http_is_accepted_for_keys_of_this_machine_only() -> None:
    local = {"JWT_JWKS_URL": "http://127.0.0.1:8080/jwks", "JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}

    assert settings(**local).tokens is not None


def test_origins_are_listed_with_commas() -> None:
    chosen = settings(ALLOWED_ORIGINS="https://game.example, http://localhost:3000,capacitor://localhost")

    assert chosen.allowed_origins == {
        "https://game.example",
        "http://localhost:3000",
        "capacitor://localhost",
    }


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "game.example",
        "https://a.example/",
        "https://a https://b",
        "null",
        ",",
        " ",
        "https://Game.example",
        "https://game.example:443",
        "https://*.example",
    ],
)
def test_an_invalid_origin_is_refused(origins: str) -> None:
    assert refusal(ALLOWED_ORIGINS=origins).startswith(
        "ALLOWED_ORIGINS must be a comma-separated list of origins as browsers send them"
    )
