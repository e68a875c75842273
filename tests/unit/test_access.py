"""Which player a handshake's token identifies, and which handshakes are refused."""

import pytest

from chalicelib.core.access import Access
from chalicelib.core.handshake import HandshakeRejected, Multi, parse_handshake
from chalicelib.core.model import Identity

OPEN = Access(is_open=True)

NOT_BEARERS: list[Multi] = [
    {"Authorization": ["Basic QTpC"]},
    {"Authorization": ["header.claims.signature"]},
    {"Authorization": [""]},
]
"""Headers that hold no token."""

BEARERS: list[Multi] = [
    {"Authorization": ["Bearer wrong"]},
    {"Authorization": ["Bearer"]},
    {"Authorization": ["Bearer a", "Bearer b"]},
    {"Sec-WebSocket-Protocol": ["chat, bearer.a, bearer.b"]},
]
"""Headers with an invalid token, or with several tokens."""


class Believing:
    """Accepts every token as the id of its player."""

    def identify(self, token: str) -> Identity:
        return Identity(token)


TOKENS = Access(is_open=False, tokens=Believing)


def identified(access: Access, query: Multi, headers: Multi) -> str:
    return access.identify(parse_handshake(query, headers)).player_id


def refusal(access: Access, query: Multi, headers: Multi) -> HandshakeRejected:
    with pytest.raises(HandshakeRejected) as caught:
        identified(access, query, headers)
    return caught.value


@pytest.mark.parametrize("headers", [*NOT_BEARERS, *BEARERS])
def test_an_open_stage_ignores_authorization_and_tokens(headers: Multi) -> None:
    assert identified(OPEN, {"playerId": ["1"], "token": ["wrong"]}, headers) == "1"


@pytest.mark.parametrize("headers", NOT_BEARERS)
def test_an_authorization_header_of_another_scheme_is_ignored(headers: Multi) -> None:
    refused = refusal(TOKENS, {"playerId": ["1"]}, headers)

    assert refused.status == 401
    assert refused.detail.startswith("a token is required: ")
    assert identified(TOKENS, {"token": ["ann"]}, headers) == "ann"


def test_a_bearer_token_is_found_beside_another_scheme() -> None:
    assert identified(TOKENS, {}, {"Authorization": ["Basic QTpC", "Bearer ann"]}) == "ann"


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"Authorization": ["Bearer a", "Bearer b"]}, "more than one token"),
        ({"Authorization": ["Bearer a"], "authorization": ["bearer a"]}, "more than one token"),
        ({"Sec-WebSocket-Protocol": ["chat, bearer.a, bearer.b"]}, "more than one token"),
        ({"Authorization": ["Bearer "]}, "a token is required"),
        ({"Sec-WebSocket-Protocol": ["chat, bearer."]}, "a token is required"),
        ({}, "a token is required"),
    ],
)
def test_a_stage_with_tokens_asks_for_one_token(headers: Multi, detail: str) -> None:
    refused = refusal(TOKENS, {}, headers)

    assert refused.status == 401
    assert refused.detail.startswith(detail)
