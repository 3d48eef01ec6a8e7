"""Addresses of streams, without the passwords that they may hold."""

from __future__ import annotations

import re

SECRET = r"[\w.-]*(?:user|usr|login|pass|pw|psw|secret|token|key|auth|sig|cred)[\w.-]*"
"""Parameters of an address that are nobody's business; many cameras take the password as one."""


def without_password(address: str) -> str:
    """What messages call a stream."""
    # By hand: addresses whose passwords hold unescaped signs (`[`, `#`, `/`) are refused or cut elsewhere by urllib.
    # Where it is open what such a sign means, rather too much is left out than a part of a password shown.
    scheme, _, rest = address.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    more = rest[len(host) :]
    *named, host = host.rsplit("@", 1)
    # Some cameras have their parameters in the path: /user=admin_password=secret_channel=1.sdp
    value = r"(?:(?![&;][\w.-]+=).)*"
    more = re.sub(rf"(?<![\w.-])({SECRET}=){value}", r"\1...", more, flags=re.IGNORECASE | re.DOTALL)
    no_port = re.match(r"[^:\[]*:(?!\d*$)", host)
    rest = host + more
    left_over = re.match(r".*@" if named or no_port else r".*:.*[^/]@", rest, re.DOTALL)
    return f"{scheme}://{rest[left_over.end() :] if left_over else rest}"
