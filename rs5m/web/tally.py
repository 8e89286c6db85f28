"""What a crawl has met so far: counts by status, bytes, and how each host behaves."""

from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rs5m.web.task import Fetched
from rs5m.web.urls import normalise

UNHEARD = frozenset(("timeout", "dead_host", "dns_failure", "connection_error"))


@dataclass(slots=True)
class Host:
    """Results of one host, as its URLs name it: how many, asked for at all, not ok, without an
    answer (UNHEARD), and the seconds that their requests took.
    """

    results: int = 0
    asked: int = 0
    failed: int = 0
    silent: int = 0
    seconds: float = 0.0


@dataclass
class Tally:
    """Add each result as it comes; every figure is that of the results so far."""

    statuses: Counter = field(default_factory=Counter)
    bytes: int = 0
    hosts: dict[str, Host] = field(default_factory=dict)

    def add(self, url: str, got: Fetched) -> None:
        """Count what became of `url`."""
        self.statuses[got.status] += 1
        self.bytes += len(got.content or b"")
        host = self.hosts.setdefault(urlsplit(normalise(url) or "").hostname or "", Host())
        host.results += 1
        host.asked += got.attempts > 0
        host.failed += got.status != "ok"
        host.silent += got.status in UNHEARD
        host.seconds += got.seconds

    @property
    def unheard(self) -> bool:
        """Whether URLs were asked for and no host has answered."""
        return bool(self.statuses) and self.statuses.keys() <= UNHEARD

    def slowest(self, count: int = 5) -> list[tuple[str, float]]:
        """Hosts and their seconds for a result that was asked for, the slowest first."""
        asked = {name: host for name, host in self.hosts.items() if name and host.asked}
        mean = {name: host.seconds / host.asked for name, host in asked.items()}
        return sorted(mean.items(), key=lambda item: (-item[1], item[0]))[:count]

    def deadest(self, count: int = 5) -> list[tuple[str, Host]]:
        """Hosts that left URLs without an answer, those with the most first."""
        silent = [(name, host) for name, host in self.hosts.items() if host.silent]
        return sorted(silent, key=lambda item: (-item[1].silent, item[0]))[:count]
