"""Work in other processes, in which a log that kills its process takes no other log with it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Generic, TypeVar

from loaders import archives
from loaders.errors import DerailError

Task = TypeVar("Task")
Result = TypeVar("Result")
Lost = dict[int, str]
"""Numbers of the logs of a task that can't be read, and why: they killed the process that tried."""

_IN_FLIGHT_ELSEWHERE = 1_000
"""Tasks given at once to an executor of the user's, whose number of workers is not known."""
KILLED = (
    "the process that read it was killed, most likely for lack of memory; it is left out. Read it alone, "
    "where there is more memory"
)


def cores() -> int:
    """How many processes can run at once here."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def can_start_processes() -> bool:
    """Whether this process may have children: a daemon, as are those of Dask and of many pools, may not."""
    return not multiprocessing.current_process().daemon


class Work(Generic[Task, Result]):
    """What is to be done with each task; functions and tasks must be picklable.

    ``do(task, lost)`` reads the task's logs apart from the lost ones; ``logs(task)`` how many it has;
    ``try_one(task, number)`` reads only that log and keeps nothing.
    """

    def __init__(
        self,
        do: Callable[[Task, Lost], Result],
        logs: Callable[[Task], int],
        try_one: Callable[[Task, int], None],
    ) -> None:
        self.do, self.logs, self.try_one = do, logs, try_one


def in_processes(
    work: Work[Task, Result], tasks: Sequence[Task], executor: Executor | None = None
) -> Iterator[tuple[int, Result]]:
    """Do all tasks, each as soon as there is a place for it; gives their numbers with the results.

    ``executor``: any of ``concurrent.futures``; by default processes of this machine, as many as it
    has cores. Where a process is killed, what was under way is done again one task at a time, then
    log by log, so that only the log that kills it is lost.

    Raises ``DerailError`` where a task does: nothing that comes after could be kept either.
    """
    suspects: list[int] = []
    waiting = deque(range(len(tasks)))
    while waiting:
        with _given_or_own(executor, len(waiting)) as (pool, at_once):
            yield from _until_it_breaks(work, tasks, waiting, suspects, pool=pool, at_once=at_once)
        executor = None  # if it broke, the rest is done by processes of our own
    for number in suspects:
        yield number, _alone(work, tasks[number])


@contextmanager
def starting_processes(at_most: int | None = None) -> Generator[Processes]:
    """Processes of this machine, as many as it has cores; they start at once.

    So they can, while what they shall do is still being found out.
    """
    count = cores() if at_most is None else min(cores(), at_most)
    pool = Processes(count)
    pool.submit(os.getpid)  # all processes of a pool start with its first task
    try:
        yield pool
    except BaseException:
        _kill(pool)
        raise
    pool.shutdown()


@contextmanager
def _given_or_own(executor: Executor | None, tasks: int) -> Generator[tuple[Executor, int]]:
    if isinstance(executor, Processes):
        yield executor, 2 * executor.count
    elif executor is not None:
        yield executor, _IN_FLIGHT_ELSEWHERE
    else:
        with starting_processes(tasks) as pool:
            yield pool, 2 * pool.count


def _until_it_breaks(
    work: Work[Task, Result],
    tasks: Sequence[Task],
    waiting: deque[int],
    suspects: list[int],
    *,
    pool: Executor,
    at_once: int,
) -> Iterator[tuple[int, Result]]:
    """Results, as long as the pool works; what was in it when it broke is under suspicion."""
    under_way: dict[Future[Result], int] = {}
    is_broken = False
    do = partial(_with_limits, _limits(), work.do)
    try:
        while (waiting and not is_broken) or under_way:
            while waiting and not is_broken and len(under_way) < at_once:
                try:
                    under_way[pool.submit(do, tasks[waiting[0]], {})] = waiting[0]
                    waiting.popleft()
                except BrokenExecutor:
                    is_broken = True
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                number = under_way.pop(future)
                try:
                    result = future.result()
                except DerailError:
                    raise
                except BrokenExecutor:
                    is_broken = True
                    suspects.append(number)
                except Exception:  # noqa: BLE001 - Dask has words of its own for a killed worker
                    suspects.append(number)
                else:
                    yield number, result
    finally:
        for future in under_way:
            future.cancel()


def _alone(work: Work[Task, Result], task: Task) -> Result:
    """A task that was under way when a process was killed, without the logs that kill one."""
    lost: Lost = {}
    logs = range(work.logs(task))
    fate = _attempt(work.do, task, lost)
    if isinstance(fate, _Failed):
        for number in logs:
            one = _attempt(work.try_one, task, number)
            if isinstance(one, _Failed):
                lost[number] = one.reason
        fate = _attempt(work.do, task, lost)
    if isinstance(fate, _Failed):  # none of them alone, but all of them together
        fate = _attempt(work.do, task, dict.fromkeys(logs, fate.reason))
    if isinstance(fate, _Failed):
        raise DerailError(f"A worker process can't be kept alive: {fate.reason}")
    return fate


class _Failed:
    def __init__(self, reason: str) -> None:
        self.reason = reason


def _attempt(function: Callable[..., Result], *given: Any) -> Result | _Failed:
    """What a function returns in a process of its own."""
    with Processes(1) as pool:
        try:
            return pool.submit(partial(_with_limits, _limits(), function), *given).result()
        except BrokenExecutor:
            return _Failed(KILLED)
        except DerailError:
            raise
        except Exception as error:  # noqa: BLE001 - a log must not stop the others
            return _Failed(f"can't be put into tables: {type(error).__name__}: {error}")


# ---------------------------------------------------------------------- processes of our own


class Processes(ProcessPoolExecutor):
    """Processes of our own, ``count`` of them."""

    def __init__(self, count: int) -> None:
        super().__init__(count, mp_context=_Context(), initializer=_start)
        self.count = count


class _Process(SpawnProcess):
    """A fresh process: to fork one after Polars has started would hang.

    It does not import the user's script, whose functions it never needs: that would run the script
    again where it has no ``if __name__ == "__main__"``.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing calls it that
        script = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)  # type: ignore[attr-defined]
        finally:
            sys.modules["__main__"] = script


class _Context(SpawnContext):
    Process = _Process


def _start() -> None:
    """In a new process, before Polars starts its threads in it."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one handles it
    gc.disable()  # it would search all rows again and again; nothing here is a cycle worth finding
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """A killed parent can't say goodbye, and its pipes are held open by the other workers."""
    parent.join()
    os._exit(1)


def _kill(pool: ProcessPoolExecutor) -> None:
    """End a pool at once: what its processes still do would be thrown away."""
    processes: dict[int, Any] = dict(getattr(pool, "_processes", None) or {})
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes.values():
        process.kill()


# ---------------------------------------------------------------------- limits


Limits = tuple[int, int, int]


def _limits() -> Limits:
    return (archives.MAX_MEMBER_BYTES, archives.MAX_RATIO, archives.RATIO_FREE_BYTES)


def _with_limits(limits: Limits, function: Callable[..., Result], *given: Any) -> Result:
    """Call a function under the limits for archives that hold where it was sent off."""
    archives.MAX_MEMBER_BYTES, archives.MAX_RATIO, archives.RATIO_FREE_BYTES = limits
    return function(*given)
