"""A second implementation of the features of a prompt, in plain Python, from their description alone."""

import math

from messctl.learning.features import WORDS

MASK = 0xFFFFFFFF


def plain_features(prompt: str, words: int = WORDS) -> dict[int, float]:
    """The features of a prompt by column; columns of value 0 are left out."""
    data = prompt.encode("utf-8", "surrogatepass")
    counts: dict[int, int] = {}
    word_bytes = [bytes([b]) if (chr(b).isascii() and chr(b).isalnum()) or b >= 128 else b" " for b in data]
    found = b"".join(word_bytes).split(b" ")
    found = [word for word in found if word]
    for word in found:
        h = 2166136261
        for byte in word.lower():
            h = (h ^ byte) * 16777619 & MASK
        h = (h ^ (h >> 16)) * 0x85EBCA6B & MASK
        h = (h ^ (h >> 13)) * 0xC2B2AE35 & MASK
        h ^= h >> 16
        bucket = (h >> 1) % words
        counts[bucket] = counts.get(bucket, 0) + (1 if h & 1 else -1)
    total = sum(abs(count) for count in counts.values())
    features = {
        bucket: math.copysign(math.sqrt(abs(count) / total), count) for bucket, count in counts.items() if count
    }
    size = max(1, len(data))
    ascii_only = [chr(b) for b in data if b < 128]
    properties = [
        math.log(1 + len(data)) / 10,
        math.log(1 + data.count(b"\n")) / 5,
        math.sqrt(sum(c.isdigit() for c in ascii_only) / size),
        math.sqrt(sum(c.isupper() for c in ascii_only) / size),
        math.sqrt(sum(not c.isalnum() and ord(c) > 32 for c in ascii_only) / size),
        math.sqrt(sum(b >= 128 for b in data) / size),
        min(1.0, sum(map(len, found)) / (16 * len(found))) if found else 0.0,
        float("?" in prompt),
    ]
    return features | {words + i: value for i, value in enumerate(properties) if value}
