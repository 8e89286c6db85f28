"""Names, addresses, TLS and connections that are kept."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time

import pytest
from faulty_site import BODY, LIMITS, Site, alone, many

from rs5m import web
from rs5m.web import limits, lines, request


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 2130706433 0x7f.1 0177.1 127.1 [::1] [::ffff:127.0.0.1] 0.0.0.0".split()
    + "example.com@127.0.0.1 １２７.0.0.1 10.0.0.1 192.168.0.1 169.254.169.254".split()
    + ["[fd00:ec2::254]", "[::]", "0xA9FEA9FE", "[::ffff:10.0.0.1]"],
)
def test_refused_before_any_connection(host, no_connection):
    got = web.fetch(f"http://{host}:80/", web.Limits())
    assert (got.status, got.attempts) == ("refused_address", 1)
    assert not no_connection


@pytest.mark.parametrize(
    "host", "0.0.0.0 10.0.0.1 169.254.169.254 [::] [fe80::1] [::ffff:192.168.0.1]".split()
)
def test_allow_loopback_allows_nothing_else(host, no_connection):
    assert web.fetch(f"http://{host}/", LIMITS).status == "refused_address"
    assert not no_connection


def test_every_spelling_of_loopback_works_where_allowed(site):
    port = site.server_port
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "example.com@127.0.0.1"]:
        assert web.fetch(f"http://{host}:{port}/ok", LIMITS).content == BODY


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_names_that_resolve_inside(names, no_connection, address):
    names.book["inside.example"] = [[address]]
    assert web.fetch("http://inside.example/", web.Limits()).status == "refused_address"
    names.book["mixed.example"] = [["93.184.216.34", address]]
    assert web.fetch("https://mixed.example/", web.Limits()).status == "refused_address"
    assert not no_connection


def test_a_name_is_resolved_once_and_asked_by_name(site, names):
    names.book["chips.example"] = [["127.0.0.1"], ["10.0.0.1"]]
    got = web.fetch(f"http://chips.example:{site.server_port}/ok", LIMITS)
    assert got.status == "ok" and names.calls["chips.example"] == 1
    assert site.seen[0]["Host"] == f"chips.example:{site.server_port}"
    assert site.seen[0]["User-Agent"] == LIMITS.user_agent


def test_rebinding_between_check_and_connection(site, names):
    """The first answer is public; whatever would resolve again, the checked number included, gets
    loopback.
    """
    names.book["rebind.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    names.book["93.184.216.34"] = [["127.0.0.1"]]
    got = web.fetch(f"http://rebind.example:{site.server_port}/ok", web.Limits(timeout=2))
    assert got.status == "refused_address" and got.content is None
    assert (
        names.calls["rebind.example"] == 1 and names.calls["93.184.216.34"] == 1
    )  # it did connect, and saw the peer
    assert not site.hits


def test_the_second_address_is_tried(site, names):
    names.book["two.example"] = [["127.0.0.2", "127.0.0.1"]]
    with socket.socket() as other:  # bound, not listening: refuses
        other.bind(("127.0.0.2", 0))
        assert web.fetch(f"http://two.example:{site.server_port}/ok", LIMITS).status == "ok"


def test_names_that_do_not_resolve(names):
    names.book["gone.example"] = [[socket.gaierror(socket.EAI_NONAME, "no such name")][0]]
    assert web.fetch("http://gone.example/", LIMITS).status == "dns_failure"
    names.book["label.example"] = [UnicodeError("label too long")]
    assert web.fetch("http://label.example/", LIMITS).status == "bad_response"


def test_a_hanging_resolver_times_out(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: over.wait(30))
    since = time.monotonic()
    assert web.fetch("http://slow.example/", web.Limits(timeout=0.2)).status == "timeout"
    assert time.monotonic() - since < 20
    over.set()


def test_environment_proxies_are_not_used(site, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"{site.base}/proxy")
        monkeypatch.setenv(name.upper(), f"{site.base}/proxy")
    assert web.fetch(f"{site.base}/ok", LIMITS).status == "ok"
    assert web.fetch("http://10.0.0.1/", LIMITS).status == "refused_address"
    assert dict(site.hits) == {"/ok": 1}


# TLS


@pytest.fixture
def tls_site(tmp_path, monkeypatch):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    more = ["-subj", "/CN=chips.example", "-addext", "subjectAltName=DNS:chips.example"]
    more += ["-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(command.split() + more, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl cannot make a certificate here")
    site, asked = Site(), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.sni_callback = lambda sock, name, context: asked.append(name)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    site.asked, site.trusted = asked, ssl.create_default_context(cafile=cert)
    yield site
    site.shutdown()
    site.server_close()


def test_tls_keeps_the_name(tls_site, names, monkeypatch):
    names.book |= {"chips.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]}
    port = tls_site.server_port
    assert (
        web.fetch(f"https://chips.example:{port}/ok", LIMITS).status == "tls_error"
    )  # nobody signed it
    monkeypatch.setattr(lines, "_tls", lambda: tls_site.trusted)
    got = web.fetch(f"https://chips.example:{port}/ok", LIMITS)
    assert got.content == BODY and tls_site.asked[-1] == "chips.example"
    assert (
        web.fetch(f"https://other.example:{port}/ok", LIMITS).status == "tls_error"
    )  # signed for another name
    drip = web.fetch(
        f"https://chips.example:{port}/drip", web.Limits(**vars(LIMITS) | {"timeout": 0.4})
    )
    assert drip.status == "timeout"


def test_plain_http_on_a_tls_port(site):
    assert web.fetch(f"https://127.0.0.1:{site.server_port}/ok", LIMITS).status == "tls_error"


# Connections that are kept


def test_a_connection_is_kept_for_the_same_host_whatever_it_answers(kept_site, names):
    names.book |= {host: [["127.0.0.1"]] for host in ("one.example", "two.example")}
    paths = ["ok", "nope", "relative/x", "gzip", "empty", "chunked", "robots/5", "ok"]
    for host in ("one", "two"):
        urls = [f"http://{host}.example:{kept_site.server_port}/{p}" for p in paths]
        got = [one.status for one in many(urls, alone(), workers=1)]
        assert got == ["ok", "http_404", "ok", "ok", "empty", "ok", "ok", "ok"]
    assert kept_site.connections == {"one.example": 1, "two.example": 1}
    assert names.calls["one.example"] == names.calls["two.example"] == 1, "asked once a crawl"


def test_a_kept_connection_belongs_to_one_name_and_one_checked_address(kept_site, names):
    lines, port = request.Lines(), kept_site.server_port
    names.book |= {"a.example": [["127.0.0.1"], ["127.0.0.3"]], "b.example": [["127.0.0.1"]]}

    def ask(host):
        return request.get(f"http://{host}.example:{port}/ok", LIMITS, 2.0, lines)[2]

    with contextlib.closing(lines), socket.create_server(("127.0.0.3", port)) as other:
        assert ask("a") == ask("a") == ask("b") == "ok"
        assert kept_site.connections == {"a.example": 1, "b.example": 1}
        lines._names.clear()  # as after FRESH seconds: the name has another address now
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        with pytest.raises(ConnectionError):
            ask("a")
        assert names.calls["a.example"] == 2 and kept_site.hits["/ok"] == 3


def test_a_name_that_moves_inside_is_refused_although_a_connection_is_kept(kept_site, names):
    names.book["moves.example"] = [["127.0.0.1"], ["10.0.0.1"]]
    url = f"http://moves.example:{kept_site.server_port}/ok"
    with contextlib.closing(request.Lines()) as lines:
        assert request.get(url, LIMITS, 2.0, lines)[2] == "ok"
        lines._names.clear()
        with pytest.raises(limits.Stop, match="refused_address"):
            request.get(url, LIMITS, 2.0, lines)


def test_a_connection_that_the_server_closed_costs_no_attempt(kept_site):
    urls = [f"http://127.0.0.1:{kept_site.server_port}/leaves?{i}" for i in range(20)]
    got = many(urls, alone(retries=0), workers=1)
    assert {(one.status, one.attempts) for one in got} == {("ok", 1)}
    assert sum(kept_site.hits.values()) == 20


def test_bytes_that_nobody_asked_for_are_no_answer_to_the_next_url(kept_site):
    urls = [f"http://127.0.0.1:{kept_site.server_port}/{p}" for p in ("more", "hop/0", "more")]
    with contextlib.closing(request.Lines()) as lines:
        for url in urls:
            status, content = request.get(url, LIMITS, 2.0, lines)[2:]
            assert (status, content) in (("ok", BODY), ("redirect", None))
            time.sleep(0.02)


def test_ipv6_loopback():
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback")

    def serve():
        line, _ = listener.accept()
        with line:
            asked = line.recv(4096)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(asked) + asked)

    with listener:
        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        got = web.fetch(f"http://[0:0::1]:{port}/a?b", LIMITS)
    assert got.status == "ok" and f"Host: [::1]:{port}\r\n".encode() in got.content
    assert got.content.startswith(b"GET /a?b HTTP/1.1\r\n")
