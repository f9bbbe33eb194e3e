"""Ray clusters of several machines on this one, each bound to a processor of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

OBJECT_STORE_BYTES = 400 * 2**20


class Machines:
    """A cluster whose machines can be added and killed; the head has no processor for work."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = []

    @property
    def address(self) -> str:
        """For RAY_ADDRESS."""
        return str(self._cluster.address)

    def add(self, processor: int) -> None:
        """Add a machine with this one processor: its processes inherit what this process is bound to."""
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {processor})
        try:
            self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES))
        finally:
            os.sched_setaffinity(0, allowed)

    def kill(self, index: int) -> None:
        """Kill a machine with all its processes, as when its power fails."""
        self._cluster.remove_node(self._nodes.pop(index), allow_graceful=False)

    def close(self) -> None:
        """End all machines."""
        self._cluster.shutdown()


@contextmanager
def machines(processors: Sequence[int]) -> Iterator[Machines]:
    """Yield a cluster with a machine for each of these processors."""
    cluster = Machines()
    try:
        for processor in processors:
            cluster.add(processor)
        yield cluster
    finally:
        cluster.close()


def processors(count: int) -> list[int]:
    """Return the numbers of so many processors of this machine, taken again if it has fewer."""
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[number % len(allowed)] for number in range(count)]
