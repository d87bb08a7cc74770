"""Hashes of strings that TensorFlow's layers number them by.

FarmHash's Fingerprint64 (G. Pike, https://github.com/google/farmhash, `farmhashna::Hash64`) and SipHash-2-4
(J.-P. Aumasson, D. Bernstein, 2012).
"""

from __future__ import annotations

MASK = (1 << 64) - 1
K0, K1, K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def _word(data: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _turned(value: int, count: int) -> int:
    """Rotated to the right."""
    value &= MASK
    return (value >> count | value << (64 - count)) & MASK


def _mixed(value: int) -> int:
    value &= MASK
    return value ^ value >> 47


def _pair(u: int, v: int, mul: int) -> int:
    a = _mixed((u ^ v) * mul)
    return _mixed((v ^ a) * mul) * mul & MASK


def _weak(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = (_word(data, at + 8 * k) for k in range(4))
    a = a + w & MASK
    b = _turned(b + a + z, 21)
    c = a
    a = a + x + y & MASK
    return a + z & MASK, b + _turned(a, 44) + c & MASK


def fingerprint(text: bytes) -> int:
    """FarmHash's Fingerprint64."""
    size, mul = len(text), K2 + 2 * len(text)
    if size > 64:
        return _long(text)
    if size > 32:
        return _of_33_to_64(text, mul)
    if size > 16:
        a, b = _word(text, 0) * K1 & MASK, _word(text, 8)
        c, d = _word(text, size - 8) * mul & MASK, _word(text, size - 16) * K2 & MASK
        first = _turned(a + b, 43) + _turned(c, 30) + d
        return _pair(first & MASK, a + _turned(b + K2, 18) + c & MASK, mul)
    if size >= 8:
        a, b = _word(text, 0) + K2 & MASK, _word(text, size - 8)
        return _pair(_turned(b, 37) * mul + a & MASK, (_turned(a, 25) + b) * mul & MASK, mul)
    if size >= 4:
        return _pair(size + (_word(text, 0, 4) << 3), _word(text, size - 4, 4), mul)
    if size:
        y, z = text[0] + (text[size >> 1] << 8), size + (text[-1] << 2)
        return _mixed(y * K2 & MASK ^ z * K0 & MASK) * K2 & MASK
    return K2


def _of_33_to_64(text: bytes, mul: int) -> int:
    size = len(text)
    a, b = _word(text, 0) * K2 & MASK, _word(text, 8)
    c, d = _word(text, size - 8) * mul & MASK, _word(text, size - 16) * K2 & MASK
    y = _turned(a + b, 43) + _turned(c, 30) + d & MASK
    z = _pair(y, a + _turned(b + K2, 18) + c & MASK, mul)
    e, f = _word(text, 16) * mul & MASK, _word(text, 24)
    g = (y + _word(text, size - 32)) * mul & MASK
    h = (z + _word(text, size - 24)) * mul & MASK
    first = _turned(e + f, 43) + _turned(g, 30) + h & MASK
    return _pair(first, e + _turned(f + a, 18) + g & MASK, mul)


def _long(text: bytes) -> int:
    size, at = len(text), 0
    x, y = 81, 81 * K1 + 113 & MASK
    z = _mixed(y * K2 + 113) * K2 & MASK
    v, w = (0, 0), (0, 0)
    x = x * K2 + _word(text, 0) & MASK
    end = (size - 1) // 64 * 64
    last = end + ((size - 1) & 63) - 63
    mul, nine = K1, 1
    while True:
        final = at >= end
        if final:
            mul, nine, at = K1 + ((z & 0xFF) << 1), 9, last
            w = (w[0] + ((size - 1) & 63) & MASK, w[1])
            v = (v[0] + w[0] & MASK, v[1])
            w = (w[0] + v[0] & MASK, w[1])
        x = _turned(x + y + v[0] + _word(text, at + 8), 37) * mul & MASK
        y = _turned(y + v[1] + _word(text, at + 48), 42) * mul & MASK
        x ^= w[1] * nine & MASK
        y = y + v[0] * nine + _word(text, at + 40) & MASK
        z = _turned(z + w[0], 33) * mul & MASK
        v = _weak(text, at, v[1] * mul & MASK, x + w[0] & MASK)
        w = _weak(text, at + 32, z + w[1] & MASK, y + _word(text, at + 16) & MASK)
        z, x = x, z
        if final:
            one = _pair(v[0], w[0], mul) + _mixed(y) * K0 + z & MASK
            return _pair(one, _pair(v[1], w[1], mul) + x & MASK, mul)
        at += 64


def joined(first: int, second: int) -> int:
    """TensorFlow's FingerprintCat64 of two fingerprints."""
    mul = 0xC6A4A7935BD1E995
    found = first ^ mul ^ _mixed(second * mul) * mul & MASK
    return _mixed(_mixed(found * mul) * mul)


def keyed(text: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 with a key of two numbers of 64 bits."""
    a, b = key[0] ^ 0x736F6D6570736575, key[1] ^ 0x646F72616E646F6D
    c, d = key[0] ^ 0x6C7967656E657261, key[1] ^ 0x7465646279746573
    padded = text + bytes(7 - len(text) % 8) + bytes([len(text) & 0xFF])

    def rounds(count: int) -> None:
        nonlocal a, b, c, d
        for _ in range(count):
            a = a + b & MASK
            b = _turned(b, 64 - 13) ^ a
            a = _turned(a, 32)
            c = c + d & MASK
            d = _turned(d, 64 - 16) ^ c
            a = a + d & MASK
            d = _turned(d, 64 - 21) ^ a
            c = c + b & MASK
            b = _turned(b, 64 - 17) ^ c
            c = _turned(c, 32)

    for at in range(0, len(padded), 8):
        word = _word(padded, at)
        d ^= word
        rounds(2)
        a ^= word
    c ^= 0xFF
    rounds(4)
    return a ^ b ^ c ^ d
