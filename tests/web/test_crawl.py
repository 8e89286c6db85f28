"""Many URLs at once, slow hosts and hosts that do not answer."""

import contextlib
import socket
import threading
import time
from collections import Counter, defaultdict
from itertools import count

import pytest
from faulty_site import LIMITS, PATIENT, QUICK, Handler, alone, many

from rs5m import web
from rs5m.web import limits, task


@pytest.mark.slow
def test_many_have_their_places_and_come_twice_the_same(site):
    paths = ["ok", "nope", "flaky", "half", "brotli", "gzip", "busy", "to-private", "slow"] * 5
    urls = [f"{site.base}/{path}?{i}" for i, path in enumerate(paths)] + [
        None,
        "ftp://a/",
        "http://[::1",
    ]
    one_by_one = [web.fetch(url, LIMITS) for url in urls]
    site.hits.clear()
    assert many(urls, LIMITS, workers=16) == one_by_one
    site.hits.clear()
    assert many(iter(urls), LIMITS, workers=3, window=5) == one_by_one
    assert many([], LIMITS) == []


def test_per_host_bound(site, names):
    """12 slow requests each for two hosts: never more than `per_host` open at either, yet as many
    as allowed.
    """
    site.most.clear()
    names.book |= {host: [["127.0.0.1"]] for host in ("one.example", "two.example")}
    urls = [
        f"http://{('one', 'two')[i % 2]}.example:{site.server_port}/slow?{i}" for i in range(24)
    ]
    limits = web.Limits(**vars(LIMITS) | {"per_host": 3})
    assert {got.status for _, got in web.fetch_many(urls, limits, workers=16)} == {"ok"}
    assert site.most["one.example"] == site.most["two.example"] == 3


def test_per_host_bound_counts_redirects(site, names):
    sources = [f"from{i}.example" for i in range(12)]
    names.book |= {host: [["127.0.0.1"]] for host in [*sources, "target.example"]}
    Handler.on_away = lambda self, count: self.reply(
        302, b"", Location=f"http://target.example:{site.server_port}/slow{self.path}"
    )
    urls = [f"http://{host}:{site.server_port}/away?{host}" for host in sources]
    limits = web.Limits(**vars(LIMITS) | {"per_host": 2})
    assert {got.status for _, got in web.fetch_many(urls, limits, workers=12)} == {"ok"}
    assert site.most["target.example"] == 2


def test_a_slow_host_does_not_hold_up_the_others(site, names):
    names.book |= {host: [["127.0.0.1"]] for host in ("slow.example", "quick.example")}
    port = site.server_port
    urls = [f"http://slow.example:{port}/slow?{i}" for i in range(12)]
    urls += [f"http://quick.example:{port}/ok?{i}" for i in range(12)]
    limits = web.Limits(**vars(LIMITS) | {"per_host": 2})
    assert len(list(web.fetch_many(urls, limits, workers=4))) == 24
    quick, slow = ([max(site.times[f"/{k}?{i}"]) for i in range(12)] for k in ("ok", "slow"))
    assert max(quick) < max(slow), "the slow URLs come first, and their last is asked last"


# Hosts that do not answer


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["deaf", "full"])
def test_a_dead_host_is_given_up_and_holds_nobody(kind, site, request):
    base = request.getfixturevalue(kind)
    urls = [f"{base}/{i}" for i in range(40)] + [f"{site.base}/ok?{i}" for i in range(40)]
    found = dict(web.fetch_many(urls, PATIENT, workers=8))  # in the order of their ends
    assert {got.status for got in list(found.values())[:40]} == {"ok"}, "nobody is held"
    counts = Counter((got.status, got.attempts) for got in list(found.values())[40:])
    assert counts == {("timeout", 1): 5, ("dead_host", 0): 35}, "four at once, then one alone"


def test_all_hosts_dead(deaf, full):
    urls = [f"{base}/{i}" for i in range(20) for base in (deaf, full)]
    counts = Counter(got.status for got in many(urls, QUICK, workers=16))
    assert set(counts) == {"timeout", "dead_host"} and counts["dead_host"] >= 28


def test_a_host_that_answers_now_and_then_is_not_given_up(monkeypatch):
    asked = []

    def get(url, *_):
        asked.append(url)
        if len(asked) % 3:
            time.sleep(0.005)
            raise limits.Silent
        return 404, {}, "http_404", None

    monkeypatch.setattr(task, "get", get)
    got = many([f"http://a.example/{i}" for i in range(30)], alone(), workers=4)
    assert Counter(one.status for one in got) == {"timeout": 20, "http_404": 10}


def test_a_network_that_is_down_for_a_while_condemns_no_host(monkeypatch):
    asked = count()

    def get(url, *_):
        time.sleep(0.02)
        if 80 <= next(asked) < 200:
            time.sleep(0.05)
            raise limits.Silent
        return 404, {}, "http_404", None

    monkeypatch.setattr(task, "get", get)
    urls = [f"http://host{i % 8}.example/{i}" for i in range(400)]
    counts = Counter(got.status for got in many(urls, LIMITS, workers=16))
    assert counts == {"timeout": 120, "http_404": 280}, "no dead_host"


def test_a_slow_reader_finds_the_window_full_and_still_gets_all(monkeypatch):
    """Every thread waits for the reader, and no further URL comes in to wake one."""
    monkeypatch.setattr(task, "get", lambda *_: (404, {}, "http_404", None))
    found = []

    def read():
        urls = [f"http://host{i}.example/" for i in range(30)]
        for place, _ in web.fetch_many(urls, LIMITS, workers=4, window=4):
            time.sleep(0.01)
            found.append(place)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(10)
    assert sorted(found) == list(range(30))


def test_urls_that_come_after_a_pause_have_all_the_workers(monkeypatch):
    """The threads that a first URL needed are idle when many more come at once."""
    together, most, all_at_work, idle = [], [], threading.Event(), threading.Event()

    def get(url, *_):
        together.append(url)
        most.append(len(together))
        if len(together) == 8:
            all_at_work.set()
        idle.set() if "first" in url else all_at_work.wait(10)
        together.remove(url)
        return 404, {}, "http_404", None

    monkeypatch.setattr(task, "get", get)

    def urls():
        yield "http://first.example/"
        idle.wait(10)
        time.sleep(0.1)
        yield from (f"http://host{i}.example/" for i in range(40))

    assert len(many(urls(), LIMITS, workers=8)) == 41 and max(most) == 8


def test_the_host_with_most_urls_is_not_left_over(monkeypatch):
    """Four requests at a time, two of them for the large host: its last but one is asked when about
    20 of 40 others have been, not after all of them.
    """
    asked = []

    def get(url, *_):
        asked.append(url)
        time.sleep(0.01)
        return 404, {}, "http_404", None

    monkeypatch.setattr(task, "get", get)
    urls = [f"http://host{i}.example/" for i in range(40)]
    urls += [f"http://large.example/{i}" for i in range(20)]
    limits = web.Limits(**vars(LIMITS) | {"per_host": 2})
    assert len(many(urls, limits, workers=4)) == 60 == len(set(asked))
    assert [i for i, url in enumerate(asked) if "large" in url][-2] < 52


@pytest.mark.slow
def test_hosts_that_drip_redirect_for_ever_or_hang_up_hold_their_own_rows_only(site, names):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as rude:

        def hang_up():
            with contextlib.suppress(OSError):
                while True:
                    rude.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        names.book |= {f"{n}.example": [["127.0.0.1"]] for n in ("drip", "loop", "rude", "good")}
        kinds = {"drip": "timeout", "loop": "too_many_redirects", "rude": "connection_reset"}
        ports = defaultdict(lambda: site.server_port, rude=rude.getsockname()[1])
        urls = [f"http://{k}.example:{ports[k]}/{k}?{i}" for i in range(6) for k in kinds]
        urls += [f"http://good.example:{site.server_port}/ok?{i}" for i in range(24)]
        ends = [(place, got.status) for place, got in web.fetch_many(urls, PATIENT, workers=24)]
        rude.shutdown(socket.SHUT_RDWR)
    found = defaultdict(Counter)
    for place, status in ends:
        found[urls[place].split(".")[0][7:]][status] += 1
    assert found == {k: {status: 6} for k, status in kinds.items()} | {"good": {"ok": 24}}
    order = [status for _, status in ends]
    assert "ok" not in order[order.index("timeout") :], "the drips end later"


def test_no_thread_for_a_request_or_a_name(site, names, monkeypatch):
    started, start = [], threading.Thread.start

    def count(thread):
        started.append(getattr(thread._target, "__qualname__", ""))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", count)
    names.book |= {f"h{i}.example": [["127.0.0.1"]] for i in range(100)}
    urls = [f"http://h{i % 100}.example:{site.server_port}/ok?{i}" for i in range(300)]
    assert {got.status for got in many(urls, LIMITS, workers=4)} == {"ok"}
    ours = Counter(name for name in started if name.startswith(("_Crawl", "Lines")))
    assert ours["_Crawl._work"] <= 4 and ours["Lines._resolve"] <= 5
    assert sum(ours.values()) == len([n for n in started if "process_request" not in n])


def test_a_reader_who_stops_early(site):
    results = web.fetch_many(
        (f"{site.base}/ok?{i}" for i in range(10**9)), LIMITS, workers=4, window=8
    )
    assert next(results)[1].status == "ok"
    results.close()
    assert sum(site.hits.values()) <= 16
