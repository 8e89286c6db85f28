"""One URL: redirects, faults, further attempts, opt-outs."""

import socket
import tracemalloc

import pytest
from faulty_site import BODY, LIMITS, TAGS

from rs5m import web
from rs5m.web import lines, task


@pytest.mark.parametrize(
    "path, status, http_status",
    [
        ("to-private", "refused_address", None),
        ("to-metadata", "refused_address", None),
        ("to-file", "bad_redirect", 302),
        ("loop", "too_many_redirects", 302),
        ("hop/5", "too_many_redirects", 307),
        ("hop/4", "ok", 200),
        ("deep/../relative/x", "ok", 200),
    ],
)
def test_redirects(site, path, status, http_status):
    got = web.fetch(f"{site.base}/{path}", LIMITS)
    assert (got.status, got.http_status) == (status, http_status)
    if status == "ok":
        assert got.content == BODY and "/ok" in got.url


def test_a_redirect_from_a_public_name_to_loopback_is_refused(site, monkeypatch):
    """Loopback plays a public host for the first hop only."""
    judged = []

    def refused(address, *allowed):
        judged.append(address)
        return len(judged) > 2

    monkeypatch.setattr(lines, "refused", refused)
    assert web.fetch(f"{site.base}/hop/0", web.Limits()).status == "refused_address"
    assert len(judged) == 3 and dict(site.hits) == {"/hop/0": 1}


# Faults


@pytest.mark.parametrize(
    "path, status, http_status, attempts",
    [
        ("ok", "ok", 200, 1),
        ("nothing-here", "http_404", 404, 1),
        ("flaky", "ok", 200, 2),
        ("broken", "http_503", 503, 3),
        ("busy", "ok", 200, 2),
        ("drip", "timeout", None, 1),
        ("drip-head", "timeout", None, 1),
        ("silent", "timeout", None, 1),
        ("endless", "too_large", 200, 1),
        ("liar", "too_large", 200, 1),
        ("bomb", "too_large", 200, 1),
        ("gzip", "ok", 200, 1),
        ("bad-gzip", "bad_encoding", 200, 1),
        ("brotli", "bad_encoding", 200, 1),
        ("half", "incomplete_body", 200, 3),
        ("half-once", "ok", 200, 2),
        ("half-chunked", "incomplete_body", 200, 3),
        ("reset", "ok", 200, 2),
        ("reset-body", "incomplete_body", 200, 3),
        ("garbage", "bad_response", None, 1),
        ("hints", "ok", 200, 1),
        ("hints-for-ever", "timeout", None, 1),
        ("part", "http_206", 206, 1),
        ("empty", "empty", 200, 1),
    ],
)
def test_faults(site, path, status, http_status, attempts):
    limits = web.Limits(**vars(LIMITS) | {"timeout": 0.5 if status == "timeout" else 10})
    got = web.fetch(f"{site.base}/{path}", limits)
    assert (got.status, got.http_status, got.attempts) == (status, http_status, attempts)
    assert got.content == (BODY if status == "ok" else None)
    assert site.hits[f"/{path}"] == attempts


def test_chunked(site):
    assert web.fetch(f"{site.base}/chunked", LIMITS).content == b"abcde"


def test_waits_between_attempts(site):
    web.fetch(f"{site.base}/busy", LIMITS)
    first, second = site.times["/busy"]
    assert 0.28 <= second - first < 60  # asked for an hour, capped at max_wait
    web.fetch(f"{site.base}/broken", web.Limits(**vars(LIMITS) | {"backoff": 0.05}))
    a, b, c = site.times["/broken"]
    assert b - a >= 0.05 and c - b >= 0.1


def test_retry_after():
    assert task._retry_after({}) == 0
    assert task._retry_after({"Retry-After": "7"}) == 7
    assert task._retry_after({"Retry-After": "soon"}) == 0
    assert task._retry_after({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}) == 0
    assert task._retry_after({"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}) > 1e6


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        got = web.fetch(f"http://127.0.0.1:{free.getsockname()[1]}/", LIMITS)
    assert (got.status, got.attempts) == ("connection_error", 1)


def test_a_gzip_bomb_costs_no_memory(site):
    tracemalloc.start()
    assert web.fetch(f"{site.base}/bomb", LIMITS).status == "too_large"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # 200 MB when inflated; the cap is 0.1 MB


@pytest.mark.parametrize("index", range(len(TAGS)))
def test_opt_out(site, index):
    tags, out = TAGS[index]
    assert web.opted_out([tags] if isinstance(tags, str) else tags, LIMITS.user_agent) is out
    assert web.fetch(f"{site.base}/robots/{index}", LIMITS).status == ("opt_out" if out else "ok")
