"""Work of several owners, of which each gets its turn: one item, then the next owner's.

In: items with their size and owner, from any thread. Out: items, to the thread that works on them.
"""

from collections import deque
from collections.abc import Hashable
from threading import Condition
from typing import Generic, TypeVar

Owner = TypeVar("Owner", bound=Hashable)
Item = TypeVar("Item")


class FairQueue(Generic[Owner, Item]):
    """One queue for each owner that has work; an owner's items stay in order.

    >>> queue = FairQueue()
    >>> for owner, item in [("a", 1), ("a", 2), ("a", 3), ("b", 4)]:
    ...     queue.put(owner, item, 10)
    >>> queue.take(), queue.take(), queue.take(), queue.waiting_bytes("a")
    (('a', 1), ('b', 4), ('a', 2), 10)
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._queues: dict[Owner, deque[tuple[Item, int]]] = {}  # whose turn is next stands first
        self._bytes: dict[Owner, int] = {}
        self._closed = False

    def put(self, owner: Owner, item: Item, size_bytes: int) -> None:
        """Add an item at the end of its owner's queue."""
        with self._changed:
            self._queues.setdefault(owner, deque()).append((item, size_bytes))
            self._bytes[owner] = self._bytes.get(owner, 0) + size_bytes
            self._changed.notify()

    def take(self) -> tuple[Owner, Item] | None:
        """Wait for an item. Returns the next owner and its next item; None once the queue is
        closed."""
        with self._changed:
            while not self._queues and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            owner = next(iter(self._queues))
            queue = self._queues.pop(owner)
            item, size_bytes = queue.popleft()
            self._bytes[owner] -= size_bytes
            if queue:
                self._queues[owner] = queue
            else:
                del self._bytes[owner]
            return owner, item

    def forget(self, owner: Owner) -> None:
        """Drop what an owner has waiting."""
        with self._changed:
            self._queues.pop(owner, None)
            self._bytes.pop(owner, None)

    def waiting_bytes(self, owner: Owner) -> int:
        """Returns the sum of the sizes of an owner's items."""
        with self._changed:
            return self._bytes.get(owner, 0)

    def close(self) -> None:
        """Let `take` return None from now on, whatever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
