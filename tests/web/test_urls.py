"""One spelling of a URL, and addresses that are out of bounds."""

import random

import pytest
from faulty_site import LIMITS

from rs5m import web


@pytest.mark.parametrize(
    "url, clean",
    [
        ("HTTP://Example.COM:80/a%7eb/%c3%a9?B=2&a=1#top", "http://example.com/a~b/%C3%A9?B=2&a=1"),
        ("https://example.com:443", "https://example.com/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("  http://a.com/x y.jpg\n", "http://a.com/x%20y.jpg"),
        ("http://a.com/é", "http://a.com/%C3%A9"),
        ("http://a.com/100%", "http://a.com/100%25"),
        ("http://a.com/a%2Fb%2fc", "http://a.com/a%2Fb%2Fc"),
        ("http://a.com/./b/../c/%2e%2e/d", "http://a.com/d"),
        ("http://a.com/../../x/..", "http://a.com/"),
        ("http://a.com/a/b/.", "http://a.com/a/b/"),
        ("http://a.com//x", "http://a.com//x"),
        ("http://a.com\\b\\c?d\\e", "http://a.com/b/c?d%5Ce"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
        ("http://例え.テスト/", "http://xn--r8jz45g.xn--zckzah/"),
        ("http://my_host.example.com./", "http://my_host.example.com/"),
        ("http://user:secret@a.com/", "http://a.com/"),
        ("http://example.com@127.0.0.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1\\@example.com/", "http://127.0.0.1/@example.com/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://0177.0.0.1/", "http://127.0.0.1/"),
        ("http://127.1/", "http://127.0.0.1/"),
        ("http://%31%32%37.0.0.1/", "http://127.0.0.1/"),
        ("http://１２７。０.0.1/", "http://127.0.0.1/"),
        ("http://[::FFFF:127.0.0.1]:8080/", "http://[::ffff:7f00:1]:8080/"),
        ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]/"),
        ("http://a.com/%u1234", "http://a.com/%25u1234"),
        ("http://a.com/?a=1&amp;b=2", "http://a.com/?a=1&b=2"),
        ("http://a.com/?a=1&amp;amp;b=2", "http://a.com/?a=1&b=2"),
        ("http://a.com/it&#39;s.jpg?x=&#x41;", "http://a.com/it's.jpg?x=A"),
        ("http://a.com/?a=1&copy=2&lt=3", "http://a.com/?a=1&copy=2&lt=3"),
    ],
)
def test_normalise(url, clean):
    assert web.normalise(url) == clean
    assert web.normalise(clean) == clean


@pytest.mark.parametrize(
    "url",
    [
        None,
        float("nan"),
        b"http://a.com/",
        "",
        "a.com/x.jpg",
        "//a.com/x.jpg",
        "file:///etc/passwd",
        "ftp://a.com/x",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "http://",
        "http:///x",
        "http://a..com/",
        "http://a b.com/",
        "http://a.com:99999/",
        "http://a.com:0/",
        "http://a.com:x/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://256.256.256.256/",
        "http://1.2.3.4.5/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 130 + "com/",
        "http://a.com/" + "x" * 9000,
        "http://a.com/\ud800",
        "http://\ud800.com/",
        "http://a.com%00.b.com/",
    ],
)
def test_hopeless_urls(url):
    assert web.normalise(url) is None
    assert web.fetch(url, LIMITS).status == "bad_url"


def test_normalise_is_idempotent_and_never_raises():
    rng = random.Random(0)
    pieces = [
        "http://",
        "https://",
        "a.com",
        "ü",
        "%",
        "%2",
        "%41",
        "/",
        "..",
        "?",
        "#",
        "@",
        ":",
        "[",
        "]",
        "\\",
        " ",
    ]
    pieces += ["::1", "80", "0x7f", "\x00", "\u3002", "xn--", "&", "=", "%2e", "\u202e", "1"]
    kept = 0
    for _ in range(20_000):
        clean = web.normalise(
            "http://" * (rng.random() < 0.7) + "".join(rng.choices(pieces, k=rng.randint(1, 8)))
        )
        if clean is not None:
            kept += 1
            assert clean.isascii() and web.normalise(clean) == clean
    assert kept > 1000


# Addresses

OUT_OF_BOUNDS = """
10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 0.0.0.0 0.1.2.3 169.254.169.254 224.0.0.1
240.0.0.1 255.255.255.255 192.0.0.192 192.0.2.1 198.18.0.1 203.0.113.9 168.63.129.16 :: fe80::1
fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 fec0::1 ::ffff:10.0.0.1
::ffff:169.254.169.254 ::ffff:0.0.0.0 ::10.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 192.88.99.1
2001:0:808:808::1 2002:808:808:: 2002:a00:1:: 2002:7f00:1:: 64:ff9b::7f00:1 100::1
""".split()


PRIVATE = """
10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 ::ffff:10.0.0.1
""".split()


def test_addresses():
    for address in OUT_OF_BOUNDS:
        assert web.refused(address), address
        assert web.refused(address, allow_loopback=True), address
        private = address in PRIVATE
        assert web.refused(address, allow_private=True) != private, address
    for address in ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"]:
        assert web.refused(address) and not web.refused(address, allow_loopback=True)
        assert web.refused(address, allow_private=True), address
    for address in [
        "8.8.8.8",
        "93.184.216.34",
        "2606:2800:220:1::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ]:
        assert not web.refused(address) and not web.refused(address, allow_loopback=True), address
