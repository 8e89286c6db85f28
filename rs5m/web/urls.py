"""What may be asked of the web: one spelling per URL, addresses that are out of bounds, opt-outs.
No network here.

Chapter: pub11.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit

import idna

UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
BLANKS = "".join(map(chr, range(33))) + "\u00a0\u200b\u3000\ufeff"
LONGEST_URL = 8192  # longer ones are inlined data or broken rows
PORTS = {"http": 80, "https": 443}
OPT_OUT = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none"))
ROBOT_VALUES = frozenset(
    ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
TUNNELS = "2001::/23 2002::/16"  # Teredo, 6to4
# and IANA's blocks that some Pythons take for public, and Azure's own host inside Azure
ALSO_SPECIAL = [
    ipaddress.ip_network(block)
    for block in f"{TUNNELS} 192.0.0.0/24 192.88.99.0/24 64:ff9b:1::/48 3fff::/20 168.63.129.16/32".split()
]


def normalise(url: str) -> str | None:
    """One spelling of an http(s) URL, or None if it is hopeless; idempotent. De-duplicate on it.

    Scheme and host lower-case (IDNA, IPv4 numbers in any base), default port, user name and
    fragment dropped, dot segments resolved, percent-encoding canonical. The query keeps its parts
    and their order. Chapter: pub11.
    """
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        return None
    head, mark, tail = re.sub("[\t\r\n]", "", url.strip(BLANKS)).partition("?")
    try:
        parts = urlsplit(head.replace("\\", "/") + mark + tail)  # as browsers do
        host, port = _host(parts.hostname or ""), parts.port
        path, query = _dots(_escape(parts.path)), _escape(parts.query)
    except (ValueError, OSError):
        return None
    if parts.scheme not in ("http", "https") or port == 0:
        return None
    where = host if port in (None, PORTS[parts.scheme]) else f"{host}:{port}"
    return f"{parts.scheme}://{where}{path}" + (f"?{query}" if query else "")


def _host(name: str) -> str:
    name = unquote(name)
    if ":" in name:
        if "%" in name:
            raise ValueError("an address with a zone belongs to one machine")
        return f"[{ipaddress.IPv6Address(name).compressed}]"
    if not name.isascii():
        name = idna.encode(name, uts46=True).decode()
    name = name.lower().removesuffix(".")
    if len(name) > 253 or not all(
        re.fullmatch("[a-z0-9_-]{1,63}", label) for label in name.split(".")
    ):
        raise ValueError("not a host name")
    if re.fullmatch("[0-9]+|0x[0-9a-f]*", name.rsplit(".", 1)[-1]):
        return socket.inet_ntoa(
            socket.inet_aton(name)
        )  # 2130706433, 0x7f.1 and 0177.0.0.1 are all 127.0.0.1
    return name


def _escape(text: str) -> str:
    def one(match):
        if not match[1]:
            return "%25"
        char = chr(int(match[1], 16))
        return char if char in UNRESERVED else match[0].upper()

    return quote(re.sub("%([0-9A-Fa-f]{2})|%", one, text), safe="%:/?[]@!$&'()*+,;=")


def _dots(path: str) -> str:
    kept, parts = [], path.split("/")[1:]
    for part in parts:
        if part == "..":
            kept[-1:] = []
        elif part != ".":
            kept.append(part)
    return "/" + "/".join(kept + [""] * (parts[-1:] in (["."], [".."]) and bool(kept)))


def refused(address: str, allow_loopback: bool = False) -> bool:
    """Whether an IP address is out of bounds: anything but public unicast.

    `allow_loopback` adds loopback and nothing else. An IPv4 address inside an IPv6 one (mapped,
    NAT64) is judged itself; 6to4 and Teredo, which tunnel, are refused. Chapter: pub11.
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
    return (
        ip.is_private or ip.is_link_local or ip.is_multicast or ip.is_reserved or not ip.is_global
    )


def opted_out(tags: Iterable[str], user_agent: str) -> bool:
    """Whether `X-Robots-Tag` values ask us to leave an image alone: noai, noimageai, noindex,
    noimageindex, none.

    Those are img2dataset's four and `none`, short for noindex, nofollow. "somebot: noai" binds
    somebot alone; all the directives after a name belong to it. Chapter: pub11.
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
