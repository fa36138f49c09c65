"""Number of torch's threads, lowered for the time of a loop that gains nothing by more.

torch keeps two numbers: one for each thread that has computed with it, and one that
further threads begin with. ``torch.set_num_threads`` sets that of the calling thread
and the one to begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from typing import TypeVar

import torch

from .settings import SETTINGS, Settings

Value = TypeVar("Value")

#: Held while the number that further threads begin with is not that of the user.
LOCK = Lock()


@contextmanager
def threads_for(
    work: float, *, side_by_side: bool = False, settings: Settings = SETTINGS
) -> Iterator[None]:
    """Context manager: one thread of torch where the steps of a loop are small.

    Threads wait for each other after every operation, and spin meanwhile. They gain
    little where operations are short, and where all cores are busy a fit takes ten to a
    hundred times as long with two threads as with one.

    Other threads, also new ones, keep their number: fits at the same time do not meet.
    A number that is set within the loop stays.

    Parameters
    ----------
    work : float
        Multiplications per step of the loop, forward.
    side_by_side : bool, default=False
        Whether several networks, or one, are trained at a time.
    settings : Settings
        The work from which more threads pay.
    """
    before = torch.get_num_threads()
    least = settings.threaded_work
    if side_by_side:
        least = settings.threaded_work_side_by_side
    if work >= least or before == 1:
        yield
        return
    try:
        set_own_threads(1)
        yield
    finally:
        if torch.get_num_threads() == 1:
            try:
                set_own_threads(before)
            except KeyboardInterrupt:  # in the middle of it
                set_own_threads(before)
                raise


def set_own_threads(n_threads: int) -> None:
    """Set the number of the calling thread, and leave that of further threads."""
    with LOCK:
        further = in_new_thread(torch.get_num_threads)
        try:
            torch.set_num_threads(n_threads)
        finally:
            in_new_thread(lambda: torch.set_num_threads(further))


def in_new_thread(function: Callable[[], Value]) -> Value:
    """Return ``function()`` of a thread that has not computed yet."""
    found: list[Value] = []
    thread = Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]
