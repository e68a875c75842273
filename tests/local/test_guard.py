"""Web pages that a developer visits cannot reach the local tables; programs can."""

import http.client
import json

import pytest

from localdev.embedded_dynamodb import EmbeddedDynamoDB
from localdev.guard import Guard
from tests.support.api import FOREIGN_ORIGINS, LOCAL_ORIGINS, OTHER_HOSTS, OWN_HOSTS
from tests.support.sockets import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def port() -> int:
    return EmbeddedDynamoDB(on_write=lambda: None).serve("127.0.0.1", 0)


def ask(
    port: int, *headers: tuple[str, str], method: str = "POST", version: str = "HTTP/1.1"
) -> tuple[int, str]:
    """List the tables with these headers, and return the status and the message of a refusal."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection._http_vsn_str = version  # type: ignore[attr-defined]
    connection.putrequest(method, "/", skip_host=True)
    for name, value in (*headers, ("X-Amz-Target", "DynamoDB_20120810.ListTables"), ("Content-Length", "2")):
        connection.putheader(name, value.format(port=port))
    connection.endheaders(b"{}")
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, "" if answer.status == 200 else json.loads(content)["message"]


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_the_tables_are_served_to_programs_by_this_machines_names_and_addresses(port: int, host: str) -> None:
    assert ask(port, ("Host", host)) == (200, "")


@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_the_tables_are_not_served_by_another_name(port: int, host: str, method: str) -> None:
    expected = 403, "The Host header must be localhost, an IP address, or the name given as --host."

    assert ask(port, ("Host", host), method=method) == expected


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize("origin", [*LOCAL_ORIGINS, *FOREIGN_ORIGINS])
def test_the_tables_are_not_served_to_any_web_page(port: int, origin: str, method: str) -> None:
    expected = 403, "Web pages cannot use this port: the request must have no Origin header."

    assert ask(port, ("Host", "localhost"), ("Origin", origin), method=method) == expected


def test_two_hosts_are_refused(port: int) -> None:
    assert ask(port, ("Host", "localhost"), ("Host", "evil.example"))[0] == 403


def test_a_program_that_sends_no_host_is_answered(port: int) -> None:
    assert ask(port, version="HTTP/1.0") == (200, "")


def test_the_name_given_as_host_is_accepted() -> None:
    guard = Guard("MyBox.lan")

    assert guard.refusal_of_program(["mybox.lan:8002"], []) is None
    assert guard.refusal_of_page(["mybox.lan:8000"], ["http://mybox.lan:8000"]) is None
    assert guard.refusal_of_player(["mybox.lan:8001"], ["http://mybox.lan:8000"]) is None
    assert guard.refusal_of_program(["otherbox.lan"], []) is not None
