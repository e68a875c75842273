"""Virtual time, and tasks that go on in an order drawn from a seed.

A task is ordinary code in a greenlet: it lets the others have their turn wherever it calls `pause`.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

from greenlet import getcurrent, greenlet


class Crash(BaseException):
    """The process that runs a function is gone, in the middle of it."""


@dataclass(eq=False, slots=True)
class Task:
    """`deadline`: when the function is given up, in virtual seconds. `done` is told whether it succeeded."""

    name: str
    run: greenlet
    deadline: float
    wakes_at: float = 0
    crashed: bool = False
    done: Callable[[BaseException | None], None] = lambda error: None


@dataclass(slots=True)
class Schedule:
    random: Random
    now: float = 1_000_000.0
    tasks: list[Task] = field(default_factory=list)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _hub: greenlet = field(default_factory=getcurrent)
    _running: Task | None = None

    def start(
        self,
        name: str,
        work: Callable[[], None],
        seconds: float,
        done: Callable[[BaseException | None], None],
    ) -> None:
        self.tasks.append(Task(name, greenlet(work, self._hub), self.now + seconds, done=done))

    def pause(self, seconds: float = 0) -> None:
        """Let others have their turn; on, in no less than so many seconds."""
        task = self._running
        assert task is not None
        if not task.crashed:
            task.wakes_at = self.now + seconds
            self._hub.switch()
        if task.crashed:
            raise Crash

    def crash(self) -> NoReturn:
        """The running task's process is gone: whatever its code still tries to do has no effect."""
        assert self._running is not None
        self._running.crashed = True
        raise Crash

    def time_left(self) -> float:
        """Seconds that the running task has left."""
        assert self._running is not None
        return self._running.deadline - self.now

    def later(self, seconds: float, effect: Callable[[], None]) -> None:
        """Something that happens by itself."""
        self._later.append((self.now + seconds, effect))

    def step(self) -> bool:
        """Let one task go on; False when none can."""
        ready = [task for task in self.tasks if task.wakes_at <= self.now]
        if not ready:
            return False
        task = self.random.choice(ready)
        self._running = task
        error: BaseException | None = None
        try:
            task.run.switch()
        except (Exception, Crash) as raised:
            error = raised
        self._running = None
        if task.run.dead:
            self.tasks.remove(task)
            task.done(error)
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass, and give up the functions whose time is over."""
        self.now += seconds
        due = [effect for at, effect in self._later if at <= self.now]
        self._later = [(at, effect) for at, effect in self._later if at > self.now]
        for effect in due:
            effect()
        for task in [task for task in self.tasks if task.deadline <= self.now]:
            self.tasks.remove(task)
            task.crashed = True
            self._running = task
            with suppress(Crash):
                task.run.throw(Crash())
            self._running = None
            task.done(Crash())

    def wake(self) -> None:
        """Let time pass until some task can go on, or something happens by itself."""
        times = [task.wakes_at for task in self.tasks] + [at for at, _ in self._later]
        if times:
            self.advance(max(0.0, min(times) - self.now) + 0.001)
