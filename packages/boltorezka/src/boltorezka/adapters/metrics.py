"""What the server counts, as Prometheus text. Labels are bounded sets: reasons and codes, never ids."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.samples import Sample

__all__ = ["CONTENT_TYPE", "Metrics", "Sample"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a message that crosses one idle loop to one that waits behind a stalled disk.
_DELIVERY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

# From two peers on one machine to a relay over TCP on a bad mobile network.
_SETUP_BUCKETS = (0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30)


class Metrics:
    """The counters of one process, in a registry of their own (ports.RealtimeMetrics, and authentication)."""

    def __init__(self, version: str, sha: str) -> None:
        """Start every counter at nothing; `version` and `sha` label the build."""
        self._registry = CollectorRegistry(auto_describe=True)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"boltorezka_{name}", text, labels, registry=self._registry)

        self._sockets = Gauge("boltorezka_sockets", "Open sockets.", registry=self._registry)
        self._opened = counter("sockets_opened", "Sockets that were let in.")
        self._closed = counter("sockets_closed", "Sockets that ended, by reason.", "reason")
        self._refused = counter("sockets_refused", "Sockets refused before they were let in.", "code")
        self._acks = counter("acks", "Requests acknowledged.", "event_type")
        # Looking a label up costs more than counting it, and acks are the hot path.
        self._acked: dict[str, Counter] = {}
        self._nacks = counter("nacks", "Requests refused.", "event_type", "code")
        self._delivered = counter("deliveries", "Frames written to sockets.")
        self._dropped = counter("dropped", "Frames not sent, or sockets cut as slow.", "kind")
        self._log_reads = counter("log_reads", "Reads of the log in the database.", "kind")
        self._auth_failures = counter("auth_failures", "Failed authentication, by reason.", "reason")
        self._logins = counter("logins", "Sessions begun.")
        self._delivery = Histogram(
            "boltorezka_delivery_seconds",
            "From reading a message to writing it to the sockets of its room.",
            buckets=_DELIVERY_BUCKETS,
            registry=self._registry,
        )
        self._setups = counter("voice_setups", "Voice setups, started and ended, by outcome.", "outcome")
        self._setup = Histogram(
            "boltorezka_voice_setup_seconds",
            "From taking a voice seat to the first sound, as clients report it.",
            buckets=_SETUP_BUCKETS,
            registry=self._registry,
        )
        self._relayed = counter("voice_relayed", "Signals passed on, counted for each seat.", "event_type")
        self._seats = Gauge("boltorezka_voice_seats", "Voice seats, by state.", ("state",), registry=self._registry)
        build = Gauge("boltorezka_build_info", "What serves.", ("version", "sha"), registry=self._registry)
        build.labels(version, sha).set(1)

    def text(self) -> bytes:
        """Everything, in the text format named by CONTENT_TYPE."""
        return generate_latest(self._registry)

    def samples(self) -> Iterator[Sample]:
        """Every number with its name and labels, as `text` has them."""
        for metric in self._registry.collect():
            yield from metric.samples

    def socket_opened(self) -> None:
        self._opened.inc()
        self._sockets.inc()

    def socket_closed(self, reason: str) -> None:
        self._closed.labels(reason).inc()
        self._sockets.dec()

    def acked(self, event_type: str) -> None:
        child = self._acked.get(event_type)
        if child is None:
            child = self._acked[event_type] = self._acks.labels(event_type)
        child.inc()

    def nacked(self, event_type: str, code: str) -> None:
        # An unknown type is the client's own text: as a label it would grow without bound.
        self._nacks.labels("unknown" if code == "UnknownEvent" else event_type, code).inc()

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def delivered(self, frames: int) -> None:
        self._delivered.inc(frames)

    def delivery_seconds(self, seconds: float) -> None:
        self._delivery.observe(seconds)

    def dropped(self, kind: str, frames: int) -> None:
        self._dropped.labels(kind).inc(frames)

    def log_read(self, kind: str) -> None:
        self._log_reads.labels(kind).inc()

    def auth_failed(self, reason: str) -> None:
        """Somebody was not who they had to be; `reason` is one of a fixed set."""
        self._auth_failures.labels(reason).inc()

    def logged_in(self) -> None:
        """A session began."""
        self._logins.inc()

    def voice_setup(self, outcome: str, seconds: float | None) -> None:
        self._setups.labels(outcome).inc()
        if seconds is not None:
            self._setup.observe(seconds)

    def voice_relayed(self, event_type: str, seats: int) -> None:
        self._relayed.labels(event_type).inc(seats)

    def voice_seats(self, connected: int, held: int) -> None:
        self._seats.labels("connected").set(connected)
        self._seats.labels("held").set(held)
