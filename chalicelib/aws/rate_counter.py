"""Counts what players use of the rate, in their items of the Websockets table. Its attribute names live here.

`used:<start>` is how many units a player has used in the window that began then, in milliseconds since the
epoch. An item can also have `rateDue` and `rateCountedAt`, which are 1.0.0's. Nothing reads or removes them.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws.dynamodb import Item, unavailable_on_failure
from chalicelib.core.ports import Unavailable
from chalicelib.core.rate_limit import CurrentWindow, RateLimit

OLD_WINDOWS = 20
"""When an item has so many old windows, one more call removes them. They take some 20 bytes each."""

COUNT = "ADD #used :cost"
IS_WITHIN_RATE = "(attribute_not_exists(#used) OR #used <= :left)"

_USED = "used:"


class RateCounter:
    """`clock` gives milliseconds since the epoch."""

    def __init__(self, client: Any, table: str, rate: RateLimit, clock: Callable[[], int]) -> None:
        self._client = client
        self._table = table
        self._rate = rate
        self._window = CurrentWindow(rate, clock)

    def count(self, player_id: str, sender: str, cost: int, **update: Any) -> tuple[bool, Item]:
        """Run an update of the player's item that has COUNT and IS_WITHIN_RATE in it, in one call.

        `sender` is what refusals in a row are counted by. Returns whether the update took effect, and the
        item: without effect, another part of the condition was not met. Raises RateLimited and Unavailable.
        """
        start = self._window.enter(player_id, sender, cost)
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
            self._window.not_counted(start, player_id, _used(item, start), sender, cost)
            return False, item
        item = answer["Attributes"]
        self._window.counted(start, player_id, _used(item, start), sender)
        self._remove_old_windows(update["Key"], item, before=start - self._rate.window_ms)
        return True, item

    def _remove_old_windows(self, key: Item, item: Item, before: int) -> None:
        """Remove them if there are many. If the call fails, the next frame makes it again."""
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
