"""Virtual time, and tasks that run interleaved in an order drawn from a seed.

A task is ordinary code in a greenlet. It yields to other tasks where it calls `pause`.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

from greenlet import getcurrent, greenlet


class Crash(BaseException):
    """Raised in a task whose process has crashed."""


@dataclass(eq=False, slots=True)
class Task:
    """`deadline`: when the function times out, in virtual seconds. `done` gets its error, or None."""

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
    crashes: int = 0
    _moments: int = 0
    _hub: greenlet = field(default_factory=getcurrent)
    _running: Task | None = None

    def moment(self) -> float:
        """Return the time in seconds, made unique, so that events at the same time have an order."""
        self._moments += 1
        return self.now + 1e-8 * self._moments

    @property
    def running(self) -> str | None:
        """Return the name of the running task, if one runs."""
        return None if self._running is None else self._running.name

    def start(
        self,
        name: str,
        work: Callable[[], None],
        seconds: float,
        done: Callable[[BaseException | None], None],
    ) -> None:
        self.tasks.append(Task(name, greenlet(work, self._hub), self.now + seconds, done=done))

    def pause(self, seconds: float = 0) -> None:
        """Let other tasks run for at least `seconds`. Raises Crash if this task has crashed."""
        task = self._running
        assert task is not None
        if not task.crashed:
            task.wakes_at = self.now + seconds
            self._hub.switch()
        if task.crashed:
            raise Crash

    def crash(self) -> NoReturn:
        """Crash the running task. Calls that its code still makes, such as in `finally`, raise Crash too."""
        assert self._running is not None
        self._running.crashed = True
        self.crashes += 1
        raise Crash

    def time_left(self) -> float:
        """Return the seconds until the running task's deadline."""
        assert self._running is not None
        return self._running.deadline - self.now

    def later(self, seconds: float, effect: Callable[[], None]) -> None:
        """Schedule an effect that no task causes, such as a late write."""
        self._later.append((self.now + seconds, effect))

    def step(self) -> bool:
        """Run one ready task until it yields or ends. Return False if no task is ready."""
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
        """Let time pass, and crash the functions that have timed out."""
        self.now += seconds
        due = [effect for at, effect in self._later if at <= self.now]
        self._later = [(at, effect) for at, effect in self._later if at > self.now]
        for effect in due:
            effect()
        for task in [task for task in self.tasks if task.deadline <= self.now]:
            self.tasks.remove(task)
            task.crashed = True
            self.crashes += 1
            self._running = task
            with suppress(Crash):
                task.run.throw(Crash())
            self._running = None
            task.done(Crash())

    def wake(self) -> None:
        """Let time pass until a task is ready or a scheduled effect is due."""
        times = [task.wakes_at for task in self.tasks] + [at for at, _ in self._later]
        if times:
            self.advance(max(0.0, min(times) - self.now) + 0.001)
