"""Which handshakes are valid, and how the others are refused."""

import pytest

from chalicelib.core.handshake import Handshake, HandshakeRejected, parse_handshake

TOKEN = "header.claims.signature"


def parse(query: dict[str, str] | None = None, **headers: str) -> Handshake:
    return parse_handshake(
        {name: [value] for name, value in ({"playerId": "1"} if query is None else query).items()},
        {name.replace("_", "-"): [value] for name, value in headers.items()},
    )


def refusal(query: dict[str, str] | None = None, **headers: str) -> HandshakeRejected:
    with pytest.raises(HandshakeRejected) as caught:
        parse(query, **headers)
    return caught.value


def test_other_query_parameters_are_client_data_except_the_token() -> None:
    handshake = parse({"playerId": "1", "level": "9", "token": TOKEN, "after": "0"})

    assert (handshake.player_id, handshake.after) == ("1", "0")
    assert handshake.client_data == {"level": "9"}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"playerId": ""}, "playerId: must be"),
        ({"playerId": "a b"}, "playerId: must be"),
        ({"playerId": "1", "": "x"}, "query parameters need a name"),
        ({"playerId": "1", "after": "1"}, "after: must be a messageId"),
        ({"playerId": "1", "x": "\ud800"}, "query parameters must be UTF-8"),
        ({"playerId": "1"} | {f"p{i}": "" for i in range(17)}, "at most 16 further query parameters"),
        ({"playerId": "1", "x": "y" * 1024}, "at most 16 further query parameters"),
    ],
)
def test_the_refusal_of_a_query_says_why(query: dict[str, str], named: str) -> None:
    refused = refusal(query)

    assert refused.status == 400
    assert refused.detail.startswith(named)


@pytest.mark.parametrize("name", ["playerId", "token", "after", "level"])
def test_a_repeated_parameter_is_refused_and_the_error_omits_its_values(name: str) -> None:
    with pytest.raises(HandshakeRejected) as caught:
        parse_handshake({"playerId": ["1"], name: ["canary", "other"]}, {})

    assert caught.value.status == 400
    assert "sent more than once" in caught.value.detail
    assert "canary" not in caught.value.detail


def test_client_data_up_to_its_limits_is_accepted() -> None:
    most = {f"p{i:02}": "v" * 61 for i in range(16)}

    assert parse({"playerId": "1"} | most).client_data == most


@pytest.mark.parametrize(
    ("query", "headers", "tokens"),
    [
        ({}, {}, ()),
        ({"token": "q"}, {}, ("q",)),
        ({"token": "q"}, {"Sec_WebSocket_Protocol": "chat, bearer.s"}, ("s",)),
        ({"token": "q"}, {"Sec_WebSocket_Protocol": "bearer.s,chat", "Authorization": "Bearer h"}, ("h",)),
        ({}, {"authorization": "bearer  h "}, ("h",)),
        ({}, {"Sec_WebSocket_Protocol": "chat, bearer.a, bearer.b"}, ("a", "b")),
    ],
)
def test_a_token_is_read_from_header_subprotocol_or_query_in_this_order(
    query: dict[str, str], headers: dict[str, str], tokens: tuple[str, ...]
) -> None:
    assert parse(query, **headers).tokens == tokens


@pytest.mark.parametrize("value", ["", "Basic QTpC", "Digest x", TOKEN])
def test_an_authorization_of_another_scheme_than_bearer_is_ignored(value: str) -> None:
    assert parse(Authorization=value).tokens == ()
    assert parse({"token": "q"}, Authorization=value).tokens == ("q",)


@pytest.mark.parametrize("value", ["Bearer", "Bearer "])
def test_a_bearer_without_a_token_is_an_empty_token(value: str) -> None:
    assert parse({"token": "q"}, Authorization=value).tokens == ("",)


@pytest.mark.parametrize(
    ("offered", "accepted"),
    [("chat", "chat"), (f"chat, bearer.{TOKEN}", "chat"), (f"bearer.{TOKEN},a,b", "a")],
)
def test_the_first_ordinary_subprotocol_is_accepted_and_the_token_is_not_echoed(
    offered: str, accepted: str
) -> None:
    assert parse(Sec_WebSocket_Protocol=offered).subprotocol == accepted


def test_without_subprotocols_none_is_accepted() -> None:
    assert parse().subprotocol is None


@pytest.mark.parametrize("offered", [f"bearer.{TOKEN}", "ch\u00e4t", "a b"])
def test_subprotocols_without_an_ordinary_one_are_refused_with_400(offered: str) -> None:
    assert refusal(Sec_WebSocket_Protocol=offered).status == 400
