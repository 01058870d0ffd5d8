"""Today's counters, for admins: what the database says of the day, and what this process counted."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response

from boltorezka.adapters.http.answers import json_answer
from boltorezka.adapters.http.rows import DayRow, ProcessRow, SummaryBody
from boltorezka.adapters.http.table import Access, ApiRoute, CallerOf
from boltorezka.adapters.metrics import Metrics, Sample
from boltorezka.auth.sessions import SECOND
from boltorezka.ports import Clock, LogStore
from boltorezka.protocol import iso_time
from boltorezka.rooms import access

DAY_US = 24 * 3600 * SECOND


class Telemetry:
    """The route of the summary."""

    def __init__(self, store: LogStore, metrics: Metrics, clock: Clock, caller_of: CallerOf) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._caller_of = caller_of

    def table(self) -> tuple[ApiRoute, ...]:
        """The summary."""
        return (
            ApiRoute(
                "GET",
                "/v1/telemetry/summary",
                self._summary,
                "Today's counters (UTC), and those of the answering process since it began",
                Access.ADMIN,
                {200: SummaryBody},
            ),
        )

    async def _summary(self, request: Request) -> Response:
        caller = await self._caller_of(request)
        access.administered(caller.user.role)
        now = self._clock.now()
        midnight = now - now % DAY_US
        day = await self._store.day_summary(midnight)
        body = SummaryBody(
            day=iso_time(midnight)[:10],
            since=iso_time(midnight),
            ts=iso_time(now),
            today=DayRow(
                messages=day.messages,
                edits=day.edits,
                deletes=day.deletes,
                authors=day.authors,
                new_users=day.new_users,
                logins=day.logins,
                rooms=day.rooms,
            ),
            process=process_row(self._metrics.samples()),
        )
        return json_answer(body)


def process_row(samples: Iterable[Sample]) -> ProcessRow:
    """The counters of a process, summed over the labels that a person does not ask for."""
    totals: dict[str, int] = {}
    by: dict[str, dict[str, int]] = {}
    for sample in samples:
        value = int(sample.value)
        totals[sample.name] = totals.get(sample.name, 0) + value
        label = next((sample.labels[name] for name in ("reason", "code", "kind") if name in sample.labels), None)
        if label is not None:
            counts = by.setdefault(sample.name, {})
            counts[label] = counts.get(label, 0) + value

    def counter(name: str) -> int:
        return totals.get(f"boltorezka_{name}_total", 0)

    def counters(name: str) -> dict[str, int]:
        return by.get(f"boltorezka_{name}_total", {})

    return ProcessRow(
        sockets=totals.get("boltorezka_sockets", 0),
        sockets_opened=counter("sockets_opened"),
        sockets_closed=counters("sockets_closed"),
        sockets_refused=counters("sockets_refused"),
        slow_consumers=counters("dropped").get("slow_consumer", 0),
        deliveries=counter("deliveries"),
        dropped=counters("dropped"),
        acks=counter("acks"),
        nacks=counters("nacks"),
        auth_failures=counters("auth_failures"),
        logins=counter("logins"),
    )
