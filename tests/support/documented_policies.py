"""The IAM policies of docs/backend.md, and what a policy allows."""

import json
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "backend.md"

Policy = dict[str, Any]
Statement = dict[str, Any]


class Access(NamedTuple):
    """An access to AWS as IAM sees it: `leading_keys` are the partition keys of its items, if it has any."""

    action: str
    resource: str
    leading_keys: frozenset[str] = frozenset()


def documented_policies() -> dict[str, Policy]:
    """Return the policies by their headings, such as `send-to-rooms`. They are those of stage prod."""
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"^### ([a-z-]+)\n(?:(?!^#)[^`]|`[^`]+`)*?^```json\n(.*?)^```$", text, re.M | re.S)
    return {name: json.loads(policy) for name, policy in blocks}


def allows(policy: Policy, access: Access) -> bool:
    return any(statement_allows(statement, access) for statement in policy["Statement"])


def statement_allows(statement: Statement, access: Access) -> bool:
    resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    return (
        access.action in statement["Action"]
        and _is_like(access.resource, resources)
        and all(
            _holds(operator, patterns["dynamodb:LeadingKeys"], access.leading_keys)
            for operator, patterns in statement.get("Condition", {}).items()
        )
    )


def narrower_statements(statement: Statement) -> list[Statement]:
    """Return a statement once per action, resource and pattern of a key, each with only that one."""
    resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    conditions: list[Any] = [
        {operator: {"dynamodb:LeadingKeys": [pattern]}}
        for operator, patterns in statement.get("Condition", {}).items()
        for pattern in patterns["dynamodb:LeadingKeys"]
    ]
    return [
        {**statement, "Action": [action], "Resource": resource, "Condition": condition}
        for action in statement["Action"]
        for resource in resources
        for condition in conditions or [{}]
    ]


def _holds(operator: str, patterns: list[str], keys: Iterable[str]) -> bool:
    if operator == "ForAllValues:StringLike":
        return all(_is_like(key, patterns) for key in keys)
    assert operator == "ForAllValues:StringNotLike", operator
    return not any(_is_like(key, patterns) for key in keys)


def _is_like(text: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(text, pattern.replace("[", "[[]")) for pattern in patterns)
