"""The simulated tables: the DynamoDB engine in memory, with faults in the stores' calls."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from chalicelib.aws.message_items import parse_record
from chalicelib.aws.messages import EXPIRY_SLACK_SECONDS
from chalicelib.core.message_id import timestamp_of
from chalicelib.core.model import ROOM, Entry
from localdev.dynamodb import create_tables
from localdev.engine import ApiError, Client, DynamoDb
from tests.simulation.schedule import Schedule

if TYPE_CHECKING:
    from tests.simulation.presence_log import PresenceLog
    from tests.simulation.world import World

WEBSOCKETS, MESSAGES = "websockets", "messages"
EARLIER_CHANGES = 1_000_000
"""The first stream's sequence numbers begin above this, so a new table's stream has lower ones."""

SLOW_SECONDS = 5.0
STALE_SECONDS = 2.0
"""A read that isn't consistent can miss a write for this long."""

LATE_SECONDS = 3.0
"""A failed write can still take effect within this time."""

READ = ("before", "crash before", "throttled")
BATCH_READ = (*READ, "unprocessed")
WRITE = ("before", "after", "late", "twice", "crash before", "crash after", "throttled")
"""`late`: the write takes effect after its caller got an error. `twice`: boto3 retries because the first
response was lost."""

BATCH_WRITE = (*WRITE, "unprocessed", "partial")
"""`partial`: some writes take effect, and of the others some do so after the caller got an error."""

KINDS = {"GetItem": READ, "Query": READ, "BatchGetItem": BATCH_READ, "BatchWriteItem": BATCH_WRITE}
"""The operations' faults. All others have those in WRITE."""

READS = ("GetItem", "Query", "BatchGetItem")

Item = dict[str, Any]


class Stored(NamedTuple):
    entry: Entry
    moment: float


class Tables:
    """The simulated functions use `client`. The world itself uses `reliable`, whose calls never fail.

    `history` has all entries of all streams, in their order, including those of a deleted table. Its keys
    are those of the items: the destination and the id.
    """

    def __init__(self, world: "World", slow_puts: float) -> None:
        self._world = world
        self._schedule: Schedule = world.schedule
        self._slow_puts = slow_puts
        self._engine = DynamoDb(lambda: self._schedule.now, self._read_stream)
        self._before_last_write: dict[str, tuple[Item | None, float]] = {}
        self.client = Client(self._call)
        self.reliable = Client(self._engine.call)
        self.history: dict[tuple[str, str], Stored] = {}
        for request in _definitions():
            self._engine.call("CreateTable", request)
        self._engine.tables[MESSAGES].trimmed = EARLIER_CHANGES
        self._stream, self._iterator = self._open_stream()

    def websockets_item(self, item_id: str) -> Item | None:
        """Return the engine's own item. Each change replaces it with a new object."""
        return self._engine.tables[WEBSOCKETS].get((item_id, ""))

    def recreate_messages(self) -> None:
        """Delete the table and create it again. The sequence numbers of its stream start lower."""
        self._engine.call("DeleteTable", {"TableName": MESSAGES})
        (request,) = (each for each in _definitions() if each["TableName"] == MESSAGES)
        self._engine.call("CreateTable", request)
        self._stream, self._iterator = self._open_stream()

    def _open_stream(self) -> tuple[str, str]:
        (stream,) = self.reliable.list_streams(TableName=MESSAGES)["Streams"]
        arn = stream["StreamArn"]
        shards = self.reliable.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        response = self.reliable.get_shard_iterator(
            StreamArn=arn, ShardId=shards[0]["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        return arn, response["ShardIterator"]

    def _read_stream(self) -> None:
        """Append the new records, in order, to the shards of their players."""
        response = self._engine.call("GetRecords", {"ShardIterator": self._iterator})
        self._iterator = response["NextShardIterator"]
        for record in response["Records"]:
            entry = parse_record({**record, "eventSourceARN": self._stream})
            if entry is not None:
                self.history[entry.destination, entry.id] = Stored(entry, self._schedule.moment())
                self._world.shard_of(entry.destination).records.append(entry)

    def _call(self, operation: str, request: Item) -> Item:
        """Make one AWS call, which can fail. Other tasks can run before it and after it."""
        table: str = request.get("TableName") or next(iter(request["RequestItems"]))
        requested_at = self._schedule.now
        name, schedule, random = f"{operation} {table}", self._schedule, self._world.random
        is_put = table == MESSAGES and operation in ("PutItem", "BatchWriteItem")
        is_slow = is_put and random.random() < self._slow_puts
        if is_slow:
            self._world.faulted[f"{name}: slow"] += 1
        schedule.pause(random.random() * SLOW_SECONDS if is_slow else 0)
        fault = self._world.draw(name, KINDS.get(operation, WRITE))
        if fault == "crash before":
            schedule.crash()
        if fault == "late":
            schedule.later(random.random() * LATE_SECONDS, lambda: self._apply_late(operation, request))
        if fault in ("before", "late"):
            raise ApiError("InternalServerError", name)
        if fault == "throttled":
            raise ApiError("ProvisionedThroughputExceededException", name)
        if fault == "unprocessed" and operation == "BatchGetItem":
            return self._part_of(request, table)
        if fault == "unprocessed":
            return {"UnprocessedItems": self._write_part_of(request, table)}
        if fault == "partial":
            left = self._write_part_of(request, table)
            late = self._some(left[table])
            if late:
                rest = {"RequestItems": {table: late}}
                schedule.later(random.random() * LATE_SECONDS, lambda: self._apply_late(operation, rest))
            raise ApiError("InternalServerError", name)
        if fault == "twice":
            self._apply(operation, request)
            schedule.pause()
        response = self._apply(operation, request)
        if operation == "Query":
            self._check_expired_reads(response, requested_at)
        schedule.pause()
        if fault == "after":
            raise ApiError("InternalServerError", name)
        if fault == "crash after":
            schedule.crash()
        if isinstance(response, ApiError):
            raise response
        return response

    def _apply_late(self, operation: str, request: Item) -> None:
        """Apply the write. Its caller already got an error, so nothing reads the response."""
        self._apply(operation, request)

    def _check_expired_reads(self, page: Item | ApiError, requested_at: float) -> None:
        """Record a violation if the page ends at a message that expired long ago: reading it was wasted."""
        last = {} if isinstance(page, ApiError) else page.get("LastEvaluatedKey", {})
        oldest = requested_at - self._world.retention_seconds - EXPIRY_SLACK_SECONDS - 1
        if last and timestamp_of(last["messageId"]["S"]) < 1000 * oldest:
            self._world.expired.append(f"wasted read: {last['messageId']['S']}")

    def _apply(self, operation: str, request: Item) -> Item | ApiError:
        """Return the response, or the failed condition. Any other error is a bug."""
        self._remember(operation, request)
        try:
            response = self._stale(operation, request, self._engine.call(operation, request))
        except ApiError as error:
            if error.code != "ConditionalCheckFailedException":
                raise AssertionError(f"{operation}: {error.code}: {error.message}") from error
            return error
        self._record_memberships(operation, request)
        if self._world.presence is not None and operation not in READS:
            self._record_presence(operation, request, self._world.presence)
        return response

    def update_room(self, request: Item) -> None:
        """Update a room's item without faults."""
        self._apply("UpdateItem", request)

    def _record_memberships(self, operation: str, request: Item) -> None:
        item_id = request["Key"]["id"]["S"] if operation == "UpdateItem" else ""
        if item_id.startswith(ROOM):
            self._world.memberships.record(
                item_id.removeprefix(ROOM),
                self._before_last_write[item_id][0],
                self.websockets_item(item_id),
                self._schedule.moment(),
            )

    def _record_presence(self, operation: str, request: Item, presence: "PresenceLog") -> None:
        presence.check_write(operation, request)
        item_id = request["Key"]["id"]["S"] if operation == "UpdateItem" else ""
        if item_id.startswith("player#"):
            expression = request["UpdateExpression"]
            presence.record(
                item_id, expression, self._before_last_write[item_id][0], self.websockets_item(item_id)
            )

    def _remember(self, operation: str, request: Item) -> None:
        """Keep the item as it is before this write, for reads that aren't consistent."""
        if operation not in READS and request.get("TableName") == WEBSOCKETS:
            item_id = (request.get("Key") or request["Item"])["id"]["S"]
            self._before_last_write[item_id] = self.websockets_item(item_id), self._schedule.now

    def _stale(self, operation: str, request: Item, response: Item) -> Item:
        """Return the response. If the read is eventually consistent, it misses recent writes."""
        if operation == "GetItem" and not request.get("ConsistentRead"):
            before = self._earlier(request["Key"]["id"]["S"], response.get("Item"))
            return {} if before is None else {"Item": before}
        if operation == "BatchGetItem":
            (request_of_table,), (items,) = request["RequestItems"].values(), response["Responses"].values()
            if not request_of_table.get("ConsistentRead"):
                ids = [key["id"]["S"] for key in request_of_table["Keys"]]
                now = {item["id"]["S"]: item for item in items}
                seen = [self._earlier(item_id, now.get(item_id)) for item_id in ids]
                response["Responses"] = {WEBSOCKETS: [item for item in seen if item is not None]}
        return response

    def _earlier(self, item_id: str, item: Item | None) -> Item | None:
        """Return the item as it was before its last write, if that was recent."""
        before, written_at = self._before_last_write.get(item_id, (item, 0.0))
        return before if self._schedule.now - written_at <= STALE_SECONDS else item

    def _part_of(self, request: Item, table: str) -> Item:
        """Read only some of the keys, or none, as if the batch was too large or partly throttled."""
        request_of_table: Mapping[str, Any] = request["RequestItems"][table]
        keys = list(request_of_table["Keys"])
        self._world.random.shuffle(keys)
        count = self._world.random.randrange(len(keys))
        left = {table: {**request_of_table, "Keys": keys[count:]}}
        if not count:
            return {"Responses": {}, "UnprocessedKeys": left}
        part = {"RequestItems": {table: {**request_of_table, "Keys": keys[:count]}}}
        response = self._engine.call("BatchGetItem", part)
        response["UnprocessedKeys"] = left
        return self._stale("BatchGetItem", part, response)

    def _write_part_of(self, request: Item, table: str) -> Item:
        """Write only some of the items, or none. Return the others as UnprocessedItems."""
        writes = request["RequestItems"][table]
        done = self._some(writes)[: len(writes) - 1]
        if done:
            self._apply("BatchWriteItem", {"RequestItems": {table: done}})
        return {table: [write for write in writes if write not in done]}

    def _some(self, writes: list[Item]) -> list[Item]:
        return [write for write in writes if self._world.random.random() < 0.5]


@cache
def _definitions() -> tuple[Item, ...]:
    """Return the CreateTable requests of the template's tables."""
    requests: list[Item] = []
    engine = DynamoDb()

    def call(operation: str, request: Item) -> Item:
        if operation == "CreateTable":
            requests.append(request)
        return engine.call(operation, request)

    create_tables(Client(call), {"WebsocketsTable": WEBSOCKETS, "MessagesTable": MESSAGES})
    return tuple(requests)
