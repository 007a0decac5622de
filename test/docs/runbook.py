"""Holds that a block of the docs is what the runbook says of what cluster health has printed.

Usage: runbook.py HEALTH BLOCK RUNBOOKS. HEALTH is what `rustmq admin cluster health` printed last.
The table at the head of docs/runbooks.md leads from the id of each problem to entries; each line of
the block has to begin with one of the commands that such an entry names under Commands, where words
in capitals stand for anything. One problem has to have an entry at least: what health prints and no
runbook knows helps nobody.
"""

import re
import sys

health, block, runbooks = (open(name, encoding="utf-8").read() for name in sys.argv[1:])
ids = re.findall(r"^(?:CRITICAL|WARNING) ([a-z-]+(?:/\S+)?): ", health, re.M)
table = re.search(r"^\| problem of .*?(?=^$)", runbooks, re.M | re.S).group(0)
commands = []
for problem in ids:
    shown = re.sub(r"/\S+", "/", problem)
    rows = [row for row in table.splitlines() if "`" + shown in row]
    if not rows:
        sys.exit(f"docs/runbooks.md has no entry for {problem}, which cluster health has printed")
    for row in rows:
        for entry in re.findall(r"\]\(#(\w+)\)", row):
            text = re.search(rf"^## {entry}\n(.*?)(?=^## |\Z)", runbooks, re.M | re.S | re.I).group(1)
            said = re.search(r"^\*\*Commands\.\*\* (.*?)$", text, re.M).group(1)
            commands += re.findall(r"`([^`]+)`", said)
if not ids:
    sys.exit("cluster health has printed no problem")
for line in block.splitlines():
    if line and not any(re.match(re.sub(r"\b[A-Z_]{2,}\b", r"\\S+", re.escape(c).replace(r"\ ", " ")), line) for c in commands):
        sys.exit(f"{line!r} is none of the commands of the runbooks of {', '.join(ids)}: {commands}")
