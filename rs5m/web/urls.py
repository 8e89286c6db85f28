"""What may be asked of the web: one spelling per URL, addresses that are out of bounds, opt-outs.
No network here.

Chapter: pub11.
"""

import html
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import quote

import ada_url

UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
BLANKS = "".join(map(chr, range(33))) + "\u00a0\u200b\u3000\ufeff"
LONGEST_URL = 8192  # longer ones are inlined data or broken rows
PORTS = {"http": 80, "https": 443}
ENTITY = re.compile("&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
START = re.compile(
    r"https?:[/\\]{2}[^/\\]", re.IGNORECASE
)  # the standard forgives http:/a and http:a
NAME = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
OPT_OUT = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none"))
ROBOT_VALUES = frozenset(
    ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
TUNNELS = "2001::/23 2002::/16"  # Teredo, 6to4
PRIVATE = [
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
]
# and IANA's blocks that some Pythons take for public, Azure's own host inside Azure, and Amazon's
ALSO_SPECIAL = [
    ipaddress.ip_network(block)
    for block in (
        f"{TUNNELS} 192.0.0.0/24 192.88.99.0/24 64:ff9b:1::/48 3fff::/20 168.63.129.16/32 "
        "fd00:ec2::/32"
    ).split()
]


def unescape(text: str) -> str:
    """Text with its HTML entities decoded, once. Those without a semicolon stay: `&copy=1` in a URL
    is a parameter.
    """
    return ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def normalise(url: str) -> str | None:
    """One spelling of an http(s) URL, or None if it is hopeless; idempotent. De-duplicate on it.

    The WHATWG standard's, by ada: scheme and host lower-case (IDNA, IPv4 numbers in any base),
    default port dropped, dot segments resolved. Besides, user name and fragment are dropped,
    percent-encoding is canonical, and HTML entities are decoded, however often a crawl has escaped
    them. The query keeps its parts and their order.
    """
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        return None
    url = url.strip(BLANKS)
    while (plain := unescape(url)) != url:
        url = plain
    if not START.match(url):
        return None
    try:
        parts = ada_url.URL(url)
    except ValueError:
        return None
    host = parts.hostname.removesuffix(".")
    if parts.port == "0" or not (host.startswith("[") or NAME.fullmatch(host)):
        return None
    where = f"{host}:{parts.port}" if parts.port else host
    query = _escape(parts.search.removeprefix("?"))
    return f"{parts.protocol}//{where}{_escape(parts.pathname)}" + (f"?{query}" if query else "")


def _escape(text: str) -> str:
    def one(match: re.Match) -> str:
        if not match[1]:
            return "%25"
        char = chr(int(match[1], 16))
        return char if char in UNRESERVED else match[0].upper()

    return quote(re.sub("%([0-9A-Fa-f]{2})|%", one, text), safe="%:/?[]@!$&'()*+,;=")


def refused(address: str, allow_loopback: bool = False, allow_private: bool = False) -> bool:
    """Whether an IP address is out of bounds: anything but public unicast.

    `allow_loopback` adds loopback and nothing else, `allow_private` the networks of `PRIVATE`, but
    no host by which a cloud tells its secrets. An IPv4 address inside an IPv6 one (mapped,
    NAT64) is judged itself; 6to4 and Teredo, which tunnel, are refused.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return not allow_loopback
    if ip in NAT64:  # how a network without IPv4 names it
        return refused(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    if any(ip in block for block in ALSO_SPECIAL) or getattr(ip, "is_site_local", False):
        return True
    if allow_private and any(ip in block for block in PRIVATE):
        return False
    return (
        ip.is_private or ip.is_link_local or ip.is_multicast or ip.is_reserved or not ip.is_global
    )


def opted_out(tags: Iterable[str], user_agent: str) -> bool:
    """Whether `X-Robots-Tag` values ask us to leave an image alone: noai, noimageai, noindex,
    noimageindex, none.

    Those are img2dataset's four and `none`, short for noindex, nofollow. "somebot: noai" binds
    somebot alone; all the directives after a name belong to it.
    """
    ours = {"*", user_agent.split("/")[0].split(" ")[0].lower()}
    for tag in tags:
        bound = True
        for part in tag.lower().split(","):
            name, colon, directive = part.partition(":")
            if colon and name.strip() not in ROBOT_VALUES:
                bound, part = name.strip() in ours, directive
            if bound and part.strip() in OPT_OUT:
                return True
    return False
