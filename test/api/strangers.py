"""Calls each operation of the admin API as who has not said who it is, and as a stranger with a
token: all but the login are refused, before anything of the call is looked at. It wants a node that nobody has
called often yet: whoever calls too often is turned away for that alone.
Usage: strangers.py URL DOCUMENT"""

import json
import sys
import urllib.error
import urllib.request

url, document = sys.argv[1], json.load(open(sys.argv[2]))
wrong = called = 0
for path, item in document["paths"].items():
    for method, operation in item.items():
        if method not in ("get", "post", "put", "patch", "delete") or operation.get("security") == []:
            continue
        target = url + path.replace("{", "").replace("}", "")
        for headers in ({}, {"Authorization": "Bearer rmq_0000000000000000000000000000000000000000000"}):
            request = urllib.request.Request(target, method=method.upper(), headers=headers)
            called += 1
            try:
                status = urllib.request.urlopen(request, timeout=60).status
            except urllib.error.HTTPError as refused:
                status = refused.code
            if status != 401:
                wrong += 1
                print(f"{method.upper()} {path}, {headers or 'nobody'}: {status}")
print(f"api: {called} calls of strangers, {wrong} not refused")
sys.exit(1 if wrong or not called else 0)
