"""Run several blocking calls at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

__all__ = ["together"]


def together(calls: Sequence[Callable[[], object]]) -> None:
    """Run each call in a thread of its own and wait for all.

    Args:
        calls: What to run.

    Raises:
        Exception: That of the first call, in the order given, that failed.
    """
    if len(calls) <= 1:
        for call in calls:
            call()
        return
    pool = ThreadPoolExecutor(max_workers=len(calls), thread_name_prefix="devstack")
    try:
        futures = [pool.submit(call) for call in calls]
        wait(futures)
    finally:
        # After Ctrl-C the caller stops what the calls wait for; they end by themselves then.
        pool.shutdown(wait=False)
    for future in futures:
        future.result()
