"""What a crawl has met, by status and host."""

import socket

import pytest
from faulty_site import BODY, PATIENT, QUICK

from rs5m import web


@pytest.mark.slow
def test_the_tally_knows_counts_bytes_and_the_hosts(site, deaf):
    urls = [f"{deaf}/{i}" for i in range(8)] + [f"{site.base}/ok?{i}" for i in range(3)] + ["x"]
    tally = web.Tally()
    assert not tally.unheard, "nothing was asked"
    for place, got in web.fetch_many(urls, PATIENT):
        tally.add(urls[place], got)
    assert tally.statuses == {"ok": 3, "timeout": 5, "dead_host": 3, "bad_url": 1}
    assert tally.bytes == 3 * len(BODY)
    assert tally.slowest()[0][0] == "127.0.0.9" and tally.slowest()[0][1] > 1.1, "of those asked"
    ((name, host),) = tally.deadest()
    assert name == "127.0.0.9" and (host.results, host.asked, host.failed, host.silent) == (
        8,
        5,
        8,
        8,
    )
    assert not tally.unheard, "one host has answered"


def test_no_host_answers(deaf):
    tally = web.Tally()
    for place, got in web.fetch_many([f"{deaf}/{i}" for i in range(8)], QUICK):
        tally.add(f"{deaf}/{place}", got)
    assert tally.unheard and tally.statuses == {"timeout": 5, "dead_host": 3}


def test_a_host_that_refuses_has_not_answered():
    tally = web.Tally()
    with socket.socket() as free:  # bound and not listening: nobody else can take the port
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.jpg"
        tally.add(url, web.fetch(url, QUICK))
    ((name, host),) = tally.deadest()
    assert tally.unheard and (name, host.silent) == ("127.0.0.1", 1)
    assert tally.statuses == {"connection_error": 1}
