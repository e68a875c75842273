"""Generates docs/asyncapi.yaml, the protocol's AsyncAPI document, from the models that validate the frames.

python -m specification.asyncapi > docs/asyncapi.yaml
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import NullableSchema, WithDefaultSchema

from chalicelib.core.client_frames import ACTIONS
from chalicelib.core.handshake import CLIENT_DATA_BYTES, CLIENT_DATA_PAIRS, ConnectQuery
from chalicelib.core.protocol import VERSION, ErrorCode
from specification.examples import FROM_CLIENT, FROM_GATEWAY, FURTHER, TO_CLIENT

OUTLINE = Path(__file__).parent / "outline.yaml"
HEAD = (
    "# Generated from the models in chalicelib/core/client_frames.py and service_frames.py: "
    "make specification\n"
)

REPLIES: dict[str, str | None] = {
    "sendmessage": "ack",
    "sync": "synced",
    "ping": "pong",
    "join": "joined",
    "leave": "left",
    "members": "roomMembers",
    "signal": None,
    "presence": "presenceOfPlayers",
}
"""The reply to each action besides an `error`. An accepted `signal` has none."""

UNASKED = ("connected", "message", "signalled", "presenceOfPlayers", "closing")
WHEN: dict[ErrorCode, str] = {
    "invalid_json": "the frame isn't a JSON object; NaN, Infinity and duplicate keys aren't allowed",
    "unknown_action": "`action` is missing or unknown; `detail` lists the known ones",
    "invalid_frame": "a key is missing, invalid or unknown; `detail` names it, or up to three unknown keys",
    "forbidden": (
        "`playerId` isn't this connection's player, or the player can't join the room, send to it, signal it "
        "or tell it of its presence; `detail` says why"
    ),
    "too_large": (
        "the message and its envelope, or a room's list of members, is too large; `detail` names the limit"
    ),
    "rate_limited": (
        "the player or the room is over its rate limit; retry after `retryAfterMs`. "
        "After 100 such errors in a row for the player's rate, the service closes the connection"
    ),
    "unauthorized": "the token has expired; the service closes the connection",
    "unknown_connection": "the service has no record of this connection, and closes it",
    "unavailable": "the service could not confirm that it stored the message or made the change",
    "not_a_member": "the player isn't a member of the room; join it first",
    "room_full": "the room has as many members as a room can have",
}

Json = dict[str, Any]


class FromClient(GenerateJsonSchema):
    """Generates the schema of a frame from a client. Titles and defaults are omitted as redundant."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value


class ToClient(FromClient):
    """Generates the schema of a frame to a client.

    A frame omits a key whose value is None, and has every other key, even one with its default value.
    """

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:
        return field["schema"].get("default", "") is not None


def document() -> Json:
    """Return the AsyncAPI document."""
    described: Json = yaml.safe_load(OUTLINE.read_text(encoding="utf-8"))
    described["info"]["version"] = VERSION
    failure = described["components"]["messages"].pop("gatewayFailure")
    messages = (
        _from_client() | _to_client() | {"gatewayFailure": failure | _shown("gatewayFailure", FROM_GATEWAY)}
    )
    described["components"]["messages"] = messages
    channel = described["channels"]["connection"]
    channel["messages"] = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    channel["bindings"]["ws"]["query"] = _query()
    described["operations"] = _operations()
    return described


def _from_client() -> Json:
    return {
        name: _message(name, model, model.model_json_schema(schema_generator=FromClient), FROM_CLIENT[name])
        for name, model in ACTIONS.items()
    }


def _to_client() -> Json:
    messages = {}
    for name, example in TO_CLIENT.items():
        schema = type(example).model_json_schema(mode="serialization", schema_generator=ToClient)
        schema["additionalProperties"] = True
        messages[name] = _message(name, type(example), schema, json.loads(example.to_json()))
    messages["error"]["payload"]["properties"]["code"]["description"] = _in_words(WHEN)
    return messages


def _message(name: str, model: type[BaseModel], schema: Json, example: Json) -> Json:
    """Return a message object. Its title is the model's name, its summary the model's docstring."""
    payload = _without_references(schema)
    described = {"name": name, "title": model.__name__, "summary": model.__doc__, "payload": payload}
    if "ackId" in payload["properties"]:
        described["correlationId"] = {"location": "$message.payload#/ackId"}
    return described | _shown(name, example, *FURTHER.get(name, ()))


def _without_references(schema: Json) -> Json:
    """Return the schema with its `$defs` in place of the references to them, and without its title."""
    definitions = schema.get("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return resolved(definitions[value["$ref"].removeprefix("#/$defs/")])
        return {key: resolved(each) for key, each in value.items()}

    omitted = ("title", "description", "$defs")
    return {key: resolved(value) for key, value in schema.items() if key not in omitted}


def _shown(name: str, *examples: Json) -> Json:
    return {"examples": [{"name": name, "payload": example} for example in examples]}


def _in_words(codes: dict[ErrorCode, str]) -> str:
    return "".join(f"- `{code}`: {when}\n" for code, when in codes.items())


def _query() -> Json:
    query = ConnectQuery.model_json_schema(schema_generator=ToClient)
    query["description"] = (
        f"The service saves other parameters with the connection: at most {CLIENT_DATA_PAIRS}, "
        f"with {CLIENT_DATA_BYTES} bytes in total. No parameter can be given twice."
    )
    query["properties"]["token"] = {"type": "string", "description": "A JSON Web Token. It is never saved."}
    return query | {"additionalProperties": {"type": "string"}}


def _operations() -> Json:
    channel = {"$ref": "#/channels/connection"}
    asked = {
        name: {
            "action": "receive",
            "channel": channel,
            "summary": ACTIONS[name].__doc__,
            "messages": _refer(name),
            "reply": {"channel": channel, "messages": _refer(*_answers(answer))},
        }
        for name, answer in REPLIES.items()
    }
    unasked = {
        name: {
            "action": "send",
            "channel": channel,
            "summary": type(TO_CLIENT[name]).__doc__,
            "messages": _refer(name),
        }
        for name in UNASKED
    }
    return asked | unasked


def _answers(answer: str | None) -> tuple[str, ...]:
    return ("error", "gatewayFailure") if answer is None else (answer, "error", "gatewayFailure")


def _refer(*names: str) -> list[Json]:
    return [{"$ref": f"#/channels/connection/messages/{name}"} for name in names]


class Readable(yaml.SafeDumper):
    """Writes texts with several lines as block scalars, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Readable.add_representer(str, Readable.represent_text)


def text() -> str:
    return HEAD + yaml.dump(document(), Dumper=Readable, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    sys.stdout.write(text())
