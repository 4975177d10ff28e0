"""MD5-crypt, as Apache's htpasswd writes it (`$apr1$`) and as old systems did (`$1$`).

There is no standard: it is what the program did that FreeBSD's crypt(3) came with in 1994. Weak by today's measure, and
what most htpasswd files hold.
"""

from __future__ import annotations

from hashlib import md5 as _md5

_LETTERS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS = 1000
_ORDER = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))


def md5_crypt(password: bytes, magic: str, salt: str) -> str:
    """The 22 letters of a hash; `magic` is "$apr1$" or "$1$", `salt` has at most eight characters."""
    salted = salt.encode()
    other = _digest(password + salted + password)
    text = password + magic.encode() + salted
    text += (other * (len(password) // 16 + 1))[: len(password)]
    bits = len(password)
    while bits:
        text += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    made = _digest(text)
    for at in range(_ROUNDS):
        text = password if at & 1 else made
        if at % 3:
            text += salted
        if at % 7:
            text += password
        made = _digest(text + (made if at & 1 else password))
    groups = [_letters(made[a] << 16 | made[b] << 8 | made[c], 4) for a, b, c in _ORDER]
    return "".join(groups) + _letters(made[11], 2)


def _digest(data: bytes) -> bytes:
    return _md5(data, usedforsecurity=False).digest()


def _letters(value: int, count: int) -> str:
    return "".join(_LETTERS[value >> 6 * at & 63] for at in range(count))
