"""Two children at once for a model that takes a second an item: nothing is timed while scores are made.

Items are answered one by one and know nothing of each other, so how they are shared out changes no answer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from metrics.isolation import Answer, Item, Limits, run_isolated

MOST_CHILDREN = 2
FEWEST_ITEMS = 4  # for a child of its own: fewer cost less than another child's start


def run_side_by_side(
    task: str, name: str, setup: Mapping[str, object], items: Sequence[Item], limits: Limits
) -> list[Answer]:
    """What `run_isolated` answers, by two children where there are cores and items for them."""
    num = max(1, min(MOST_CHILDREN, len(os.sched_getaffinity(0)), len(items) // FEWEST_ITEMS))
    shares = [items[i::num] for i in range(num)]
    with ThreadPoolExecutor(num) as pool:
        found = list(pool.map(lambda share: run_isolated(task, name, setup, share, limits), shares))
    return [found[i % num][i // num] for i in range(len(items))]
