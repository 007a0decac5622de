#!/usr/bin/env python3
"""Prints what `kcat -C -J` reads as the other clients print it: a line a record, bytes in hex."""
import json
import sys


def printed(text):
    if text is None:
        return "-"
    return text.encode().hex() or "."


for line in sys.stdin:
    record = json.loads(line)
    headers = record.get("headers", [])
    pairs = [f"{name}={printed(value)}" for name, value in zip(headers[::2], headers[1::2])]
    print(record["offset"], record["ts"], printed(record["key"]), printed(record["payload"]), ",".join(pairs) or "-")
