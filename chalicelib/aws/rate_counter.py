"""Counts rate-limit units of players and rooms, in their items of the Websockets table.

The attribute `used:<start>` holds the units used in the window that started then, in milliseconds since the
epoch. An item can still have version 1.0.0's `rateDue` and `rateCountedAt`, which are ignored.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws.dynamodb import Item, unavailable_on_failure
from chalicelib.core.model import Unavailable
from chalicelib.core.rate_limit import CurrentWindow, RateLimit

OLD_WINDOWS = 20
"""One more call removes old windows once an item has this many. Each takes about 20 bytes."""

COUNT = "ADD #used :cost"
IS_WITHIN_RATE = "(attribute_not_exists(#used) OR #used <= :left)"

_USED = "used:"


class RateCounter:
    """Adds costs to windows of players or rooms. `clock` returns milliseconds since the epoch."""

    def __init__(self, client: Any, table: str, rate: RateLimit, clock: Callable[[], int]) -> None:
        self._client = client
        self._table = table
        self._rate = rate
        self._window = CurrentWindow(rate, clock)

    def check(self, owner: str, sender: str, cost: int) -> None:
        """Raise RateLimited if the cached usage leaves too little. Makes no call."""
        self._window.enter(owner, sender, cost)

    def count(self, owner: str, sender: str, cost: int, **update: Any) -> tuple[bool, Item]:
        """Run an update of the owner's item that contains COUNT and IS_WITHIN_RATE, in one call.

        Returns whether the update took effect, and the item. If it didn't, another part of its condition
        failed. Raises RateLimited and Unavailable. Consecutive refusals are counted per `sender`.
        """
        start = self._window.enter(owner, sender, cost)
        update["ExpressionAttributeNames"] |= {"#used": f"{_USED}{start}"}
        update["ExpressionAttributeValues"] |= {
            ":cost": {"N": str(cost)},
            ":left": {"N": str(self._rate.burst - cost)},
        }
        item: Item
        try:
            with unavailable_on_failure():
                answer = self._client.update_item(
                    TableName=self._table,
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **update,
                )
        except ClientError as failure:
            item = failure.response.get("Item", {})
            self._window.record_refused(start, owner, _used(item, start), sender, cost)
            return False, item
        item = answer["Attributes"]
        self._window.record_accepted(start, owner, _used(item, start), sender)
        self._remove_old_windows(update["Key"], item, before=start - self._rate.window_ms)
        return True, item

    def _remove_old_windows(self, key: Item, item: Item, before: int) -> None:
        """Remove windows that started before `before`, if there are many (best effort)."""
        old = [name for name in item if name.startswith(_USED) and int(name.removeprefix(_USED)) < before]
        if len(old) < OLD_WINDOWS:
            return
        names = {f"#old{number}": name for number, name in enumerate(old)}
        with suppress(Unavailable), unavailable_on_failure():
            self._client.update_item(
                TableName=self._table,
                Key=key,
                UpdateExpression=f"REMOVE {', '.join(names)}",
                ExpressionAttributeNames=names,
            )


def _used(item: Item, start: int) -> int:
    return int(item.get(f"{_USED}{start}", {"N": "0"})["N"])
