"""Models one call of `push_messages`: when each record of a batch has been posted."""

import heapq
import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameters:
    """The model's parameters.

    `cpu_ms` comes from measure.bench: it is a hundredth of the time above 20 ms that 100 posts of 20 ms took.
    With Lambda's share of a CPU it is higher. `write_ms` is the median of a BatchWriteItem with copies of a
    room's message, and `copy_ms` the CPU time of each copy. `shards` hold the copies. The other values are
    assumptions: nothing ran on AWS.
    """

    poll_ms: float = 250.0
    invoke_ms: float = 8.0
    look_up_ms: float = 6.0
    post_ms: float = 12.0
    post_spread: float = 0.5
    cpu_ms: float = 0.3
    batch_size: int = 100
    players: int = 1000
    write_ms: float = 10.0
    copy_ms: float = 0.2
    shards: int = 4

    def post(self, chance: random.Random) -> float:
        """Return the random duration of a post in milliseconds, log-normal with the median `post_ms`."""
        return self.post_ms * chance.lognormvariate(0, self.post_spread)


def posted_at(batch: list[tuple[float, int]], parameters: Parameters, chance: random.Random) -> list[float]:
    """Return the time from the start of the call to the end of each record's post, in milliseconds.

    Posts wait for the network concurrently, but there is only one CPU. The player who is ready first gets it.
    """
    begin = parameters.invoke_ms + parameters.look_up_ms
    theirs: dict[int, deque[int]] = {}
    for index, (_, player) in enumerate(batch):
        theirs.setdefault(player, deque()).append(index)
    free = [(begin, player) for player in theirs]
    heapq.heapify(free)
    processor, ends = begin, [0.0] * len(batch)
    while free:
        ready, player = heapq.heappop(free)
        processor = max(processor, ready) + parameters.cpu_ms
        index = theirs[player].popleft()
        ends[index] = processor + parameters.post(chance)
        if theirs[player]:
            heapq.heappush(free, (ends[index], player))
    return ends
