"""Telling an address what becomes of a sweep, from a thread that the sweep never waits for.

The thread follows the ledger: a point that failed, and a claim that is decided by the points that
have ended, is told once, also if the sweep is interrupted and resumed. What the address does not
take is tried again a few times and then left; a line says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from luceloop.analysis.statistics.claims import Verdict
from luceloop.core.config.naming import point_name
from luceloop.core.config.parsing import at_point
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.config.webhooks import NOBODY
from luceloop.core.errors import ConfigError, LoopError, one_line
from luceloop.sweeps.notify.notice import Kind, Notice, Status
from luceloop.sweeps.notify.told import Told, read_told
from luceloop.sweeps.notify.webhook import PostError, Webhook
from luceloop.sweeps.record.events import PointEnded
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger

logger = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between looks at the ledger."""
PAUSES = (1.0, 3.0)
"""Seconds before a post is tried a second and a third time."""
LONGEST_PAUSE = 30.0
"""Seconds that an address may ask for before it is tried again."""
PATIENCE = 15.0
"""Seconds that the end of a run waits for what is still to be told."""
MOST_FAILURES = 10
"""Failed points that are told one by one; the end tells how many there are."""
IDLE = 20
"""Claims are answered again after so many times the seconds that answering them took."""

Answer = Callable[[], Sequence[Verdict]]
"""Answers a sweep's claims from its ledger, each decided only if that will stay."""


@dataclass(frozen=True)
class Ending:
    """How a run of a sweep ended."""

    status: Status
    reason: str = ""
    undelivered: int = 0
    """Events on record that MLflow lacks."""


class Notifier:
    """Tells an address what becomes of a sweep; does nothing where nobody is to be told."""

    def __init__(
        self, folder: SweepFolder, config: SweepConfig, ledger: Ledger, answer: Answer
    ) -> None:
        """Name what is followed; nothing starts yet.

        Args:
            folder: of the sweep, which names the address.
            config: of the sweep.
            ledger: what grows.
            answer: answers the sweep's claims.
        """
        address = folder.address
        self._hook = Webhook(address) if address not in ("", NOBODY) else None
        self._folder, self._config, self._ledger = folder, config, ledger
        self._answer, self._watches = answer, bool(config.claims)
        known = read_told(folder.told)
        # Of what was on record before anybody was named, nothing is told.
        self._told = known or Told(events=len(ledger.events))
        self._catches_up = known is None and bool(ledger.events)
        self._verdicts: Sequence[Verdict] = ()
        self._next_answers = self._started = 0.0
        self._ended, self._seen_ended = 0, -1
        self._ending: Ending | None = None
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._troubled = self._warned = self._answering = False
        self._thread = threading.Thread(target=self._follow, name="notifier", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._started = time.monotonic()
        if self._hook is not None:
            self._thread.start()

    def close(self, ending: Ending) -> None:
        """Tell how the run ended, and wait until that has arrived, for `PATIENCE` seconds at most.

        The time that answering claims takes is not counted.
        """
        if not self._thread.ident:
            return
        self._ending = ending
        self._closing.set()
        waited = time.monotonic()
        while self._thread.is_alive() and time.monotonic() < waited + PATIENCE:
            self._thread.join(0.05)
            if self._answering:
                waited = time.monotonic()
        self._given_up.set()
        if self._thread.is_alive():
            self._warn(f"no answer in {PATIENCE:g} s")

    def _follow(self) -> None:
        try:
            if not self._folder.told.exists():
                self._save()
            while not self._given_up.is_set():
                ending = self._ending  # before the look: by then all is on record
                self._look(ending)
                if ending is not None:
                    self._tell_end(ending)
                    return
                self._closing.wait(INTERVAL)
        except Exception as error:  # of ours; the sweep itself goes on
            self._warn(one_line(error))

    def _look(self, ending: Ending | None) -> None:
        """Tell what is new on record."""
        count = len(self._ledger.events)
        for event in self._ledger.events[self._told.events : count]:
            self._told.events += 1
            if isinstance(event, PointEnded):
                self._ended += 1
                if event.status in ("failed", "lost"):
                    self._tell_failure(event)
        at_end = ending is not None and ending.status in ("done", "failed")
        waits = self._ended != self._seen_ended and time.monotonic() >= self._next_answers
        if self._watches and (at_end or (ending is None and waits)):
            self._seen_ended = self._ended
            self._tell_claims()

    def _tell_failure(self, event: PointEnded) -> None:
        self._told.failures += 1
        if self._told.failures > MOST_FAILURES:
            return
        values = self._ledger.points[event.point].values
        flat = at_point(self._config, values).flat()
        name = point_name(flat, list(self._config.search.space))
        text = f"point {name} {event.status}: {event.reason}"
        if self._told.failures == MOST_FAILURES:
            text += " (of further ones only the end tells)"
        self._tell("point_failed", "running", text, point=name, reason=event.reason)

    def _tell_claims(self) -> None:
        """Answer the claims, and tell which are decided now and were not."""
        began, self._answering = time.monotonic(), True
        try:
            self._verdicts = self._answer() or self._verdicts
        except (ConfigError, LoopError) as error:
            logger.warning("claims are not told of: %s", one_line(error))
            self._watches = False
            return
        finally:
            self._answering = False
        self._next_answers = time.monotonic() + IDLE * (time.monotonic() - began)
        for number, verdict in enumerate(self._verdicts):
            says, answer = verdict.claim.says, verdict.answer
            if answer == "undecided" or self._told.claims.get(str(number)) == answer:
                continue
            self._told.claims[str(number)] = answer
            if not self._catches_up:
                text = f"claim “{says}” {verdict.words}"
                more = {"claim": says, "verdict": answer, "reason": verdict.words}
                self._tell("claim", "running", text, **more)
        self._catches_up = False
        self._save()

    def _tell_end(self, ending: Ending) -> None:
        how = {"done": "is done", "error": "broke off", "failed": "ended with failed points"}
        text = f"{how.get(ending.status, f'is {ending.status}')} after {self._duration()}"
        answers = dict(Counter(each.answer for each in self._verdicts)) if self._verdicts else None
        if answers:
            text += "; claims: " + ", ".join(f"{n} {answer}" for answer, n in answers.items())
        if ending.undelivered:
            text += f"; MLflow lacks {ending.undelivered} events"
        if ending.reason:
            text += f": {ending.reason}"
        more = {"reason": ending.reason or None, "claims": answers}
        self._tell("end", ending.status, text, **more)

    def _duration(self) -> timedelta:
        return timedelta(seconds=int(time.monotonic() - self._started))

    def _tell(self, event: Kind, status: Status, text: str, **more: Any) -> None:
        """Post a notice, and note that it was."""
        states = [point.status for point in list(self._ledger.points.values())]
        ended = sum(state is not None for state in states)
        failed = sum(state in ("failed", "lost") for state in states)
        name, total = self._config.name, self._config.point_count
        counts = f"{ended} of {total} points ended" + (f", {failed} failed" if failed else "")
        notice = Notice(
            event=event,
            sweep=self._folder.id,
            name=name,
            status=status,
            points=total,
            ended=ended,
            failed=failed,
            seconds=time.monotonic() - self._started,
            text=f"{name} ({self._folder.id}): {text} [{counts}]",
            **more,
        )
        self._post(notice.encode())
        self._save()

    def _post(self, content: bytes) -> None:
        """Post, and again if that may help; an address that took nothing before gets one try."""
        assert self._hook is not None
        if self._given_up.is_set():
            return
        for pause in (*PAUSES[: 0 if self._troubled else None], None):
            try:
                self._hook.post(content)
            except PostError as error:
                if pause is None or not error.again:
                    self._troubled = True
                    self._warn(str(error))
                    return
                self._given_up.wait(min(max(pause, error.after), LONGEST_PAUSE))
                if self._given_up.is_set():
                    return
            else:
                self._troubled = False
                return

    def _warn(self, reason: str) -> None:
        """Say in one line, and once, that something could not be told."""
        if not self._warned and self._hook is not None:
            self._warned = True
            logger.warning("%s is not told of the sweep: %s", self._hook.host, reason)

    def _save(self) -> None:
        if self._given_up.is_set():  # what was not tried is told by the next run
            return
        try:
            self._told.write(self._folder.told)
        except OSError as error:  # a full disk is what is to be told
            logger.warning("what was told is not on record: %s", one_line(error))
