"""The follower: one thread that brings a growing ledger to its storage and to MLflow.

It never holds up a sweep. Where the storage is another place than the output folder, events are
copied there first, so that whoever goes on from the copy repeats nothing that MLflow has.
"""

from __future__ import annotations

import threading
import time

from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.mirror import Mirror
from luceloop.sweeps.tracking.tracker import Tracker

INTERVAL = 1.0
"""Seconds between looks, in which rows of the same run gather into one call."""
HEAD_START = 10.0
"""Seconds for trials to start in, before the tracking store's library is loaded beside them."""
RETRY_AT_MOST = 30.0
"""Seconds between attempts while the store is down."""
BRIEF = 0.1
"""Seconds before the first new attempt where the store has just taken something."""


class Follower:
    """Follows a ledger from a thread of its own."""

    def __init__(self, ledger: Ledger, tracker: Tracker, mirror: Mirror | None = None) -> None:
        """Name what is followed; nothing starts yet.

        Args:
            ledger: what grows.
            tracker: delivers it to MLflow.
            mirror: copies it to the storage first; None where that is the output folder.
        """
        self._ledger, self._tracker, self._mirror = ledger, tracker, mirror
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._pause = INTERVAL
        self._next_delivery = self._started = 0.0
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._started = time.monotonic()
        self._thread.start()

    def close(self, patience: float) -> None:
        """Bring over what is left; give up when nobody has taken anything for `patience` seconds.

        What was given up, and why, is in the tracker's `undelivered` and `error`.
        """
        if not self._thread.ident:
            return
        self._closing.set()
        closed = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.1)
            answered = [closed, self._tracker.answered]
            if self._mirror is not None:
                answered.append(self._mirror.answered)
            if time.monotonic() - max(answered) > patience and self._thread.is_alive():
                self._given_up.set()
                if self._mirror is not None:
                    self._mirror.try_copy()  # MLflow may hang though the storage is there
                waits = "" if self._mirror is None else self._mirror.error
                self._tracker.abandon(waits or f"no answer in {patience:g} s")
                return

    def _follow(self) -> None:
        while not self._given_up.is_set():
            closing = self._closing.is_set()  # before the looks: by then all is on record
            if not closing and self._waits_for_trials():
                self._closing.wait(INTERVAL)
                continue
            copied = self._mirror is None or self._mirror.try_copy()
            known = len(self._ledger.events) if self._mirror is None else self._mirror.events
            delivered = self._try_deliver(known, hurry=closing)
            if delivered and self._tracker.lacks(known):
                continue  # the storage has its turn between two parts
            if closing and copied and delivered and not self._tracker.undelivered:
                if self._tracker.is_sure():
                    return
                continue
            pause = min(self._pause, INTERVAL)
            (self._given_up if closing else self._closing).wait(pause)

    def _waits_for_trials(self) -> bool:
        """Whether nothing is on record that a trial has computed, and trials may still start."""
        ready = any(point.rows for point in list(self._ledger.points.values()))
        return not ready and time.monotonic() < self._started + HEAD_START

    def _try_deliver(self, known: int, *, hurry: bool) -> bool:
        """Deliver, unless the store has just failed; False if it failed, or was left in peace."""
        if not hurry and time.monotonic() < self._next_delivery:
            return False
        begun = time.monotonic()
        delivered = self._tracker.try_deliver(known)
        if delivered:
            self._pause = INTERVAL
        elif self._tracker.answered > begun:
            self._pause = BRIEF
        else:
            self._pause = min(2 * self._pause, RETRY_AT_MOST)
        self._next_delivery = time.monotonic() + (0.0 if delivered else self._pause)
        return delivered
