"""Draws docs/diagrams/*.svg. Colours are of classes, light and dark; the site swaps the media query
for the theme that is chosen (hooks.py). Sizes are in pixels of a drawing 760 wide."""

import html
import os

STYLE = """
svg.d { --ink: #1f2328; --soft: #59636e; --line: #818b98; --box: #f6f8fa; --hot: #ddeaff; --warm: #fff0d0; --cold: #e7e2fb; --bad: #ffe0dd; }
@media (prefers-color-scheme: dark) { svg.d { --ink: #e6edf3; --soft: #a3adb8; --line: #6e7681; --box: #21262d; --hot: #1c3557; --warm: #4a3a12; --cold: #352c5c; --bad: #5a2424; } }
svg.d text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink); }
svg.d .soft { fill: var(--soft); font-size: 11.5px; }
svg.d .head { font-weight: 600; }
svg.d rect { stroke: var(--line); fill: var(--box); }
svg.d .hot { fill: var(--hot); } svg.d .warm { fill: var(--warm); } svg.d .cold { fill: var(--cold); } svg.d .bad { fill: var(--bad); }
svg.d .frame { fill: none; stroke-dasharray: 4 4; }
svg.d path { stroke: var(--ink); fill: none; stroke-width: 1.4; } svg.d .thin { stroke: var(--soft); stroke-dasharray: 4 3; }
svg.d polygon { fill: var(--ink); }
"""


class Drawing:
    def __init__(self, title, height):
        self.title, self.height, self.parts = title, height, []

    def text(self, x, y, s, kind="", at="middle"):
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{at}" class="{kind}">{html.escape(s)}</text>')

    def box(self, x, y, w, h, label="", sub=(), kind=""):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="5" class="{kind}"/>')
        lines = [sub] if isinstance(sub, str) else list(sub)
        top = y + h / 2 + 4.5 - 8 * len(lines)
        if label:
            self.text(x + w / 2, top, label, "head")
        for i, line in enumerate(lines):
            self.text(x + w / 2, top + 16 * (i + 1), line, "soft")

    def frame(self, x, y, w, h, label):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" class="frame"/>')
        self.text(x + 10, y + 18, label, "head", "start")

    def arrow(self, points, label="", at=None, anchor="middle"):
        (x1, y1), (x2, y2) = points[-2:]
        d = "M" + " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path d="{d}"/>')
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        bx, by = x2 - 8 * ux, y2 - 8 * uy
        self.parts.append(f'<polygon points="{x2:.1f},{y2:.1f} {bx - 4 * uy:.1f},{by + 4 * ux:.1f} {bx + 4 * uy:.1f},{by - 4 * ux:.1f}"/>')
        if label:
            x, y = at or ((x1 + x2) / 2, (y1 + y2) / 2 - 6)
            self.text(x, y, label, "soft", anchor)

    def mark(self, x, y1, y2, label, y):
        self.parts.append(f'<path d="M{x} {y1} L{x} {y2}" class="thin"/>')
        self.text(x, y, label, "soft")

    def svg(self):
        body = "\n".join(self.parts)
        title = html.escape(self.title)
        return f'<svg class="d" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {self.height}" role="img" aria-label="{title}">\n<title>{title}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def record():
    d = Drawing("The way of a record: from the producer through the broker to its log, the followers and the consumer, and later to the bucket", 380)
    d.box(10, 50, 100, 50, "producer")
    d.frame(140, 12, 480, 250, "the broker that leads the partition")
    for i, (name, sub) in enumerate((("authorise", "ACL"), ("validate", ("CRC, size,", "sequence")), ("transform", "modules, if any"), ("append", "an offset"))):
        d.box(155 + 116 * i, 44, 100, 62, name, sub, "hot")
        if i:
            d.arrow([(139 + 116 * i, 75), (155 + 116 * i, 75)])
    d.arrow([(110, 75), (155, 75)])
    d.arrow([(553, 106), (553, 142)])
    d.box(387, 142, 218, 52, "write-ahead log", "one sync for all that queued", "warm")
    d.box(387, 206, 218, 44, "memory of the tail", "what was written is what is read", "hot")
    d.arrow([(605, 160), (645, 160)], "at the same time", (690, 128))
    d.box(645, 140, 105, 56, "followers", "sync it too", "warm")
    d.arrow([(387, 168), (60, 168), (60, 100)], "ack, once every in-sync replica has it on disk", (230, 160))
    d.box(10, 205, 100, 50, "consumer")
    d.arrow([(387, 230), (110, 230)], "fetch, below the high watermark", (248, 222))
    d.arrow([(496, 250), (496, 305)], "uploaded by time or size", (504, 290), anchor="start")
    d.box(387, 305, 218, 52, "bucket", "objects; larger ones later", "cold")
    d.arrow([(387, 331), (60, 331), (60, 255)], "what the log has given up, read ahead in large pieces", (230, 323))
    return d


def tiers():
    d = Drawing("The tiers of a partition: the bucket has it from the log start to the uploaded end, the log from the local start to the end, memory has the tail", 236)
    left, local, up, tail, high, end = 110, 330, 520, 590, 660, 700
    for y, name, a, b, kind, sub in (
        (52, "bucket", left, up, "cold", "as long as retention says"),
        (102, "log on disk", local, end, "warm", "wal.capacity"),
        (152, "memory", tail, end, "hot", ""),
    ):
        d.text(100, y + 23, name, "head", "end")
        d.box(a, y, b - a, 36, kind=kind)
        d.text((a + (local if a < local else up)) / 2, y + 23, sub, "soft")
    for x, name, y in ((left, "log start", 38), (local, "local start", 38), (up, "uploaded end", 38), (high, "high watermark", 214), (end, "end", 38)):
        d.mark(x, 44, 196, name, y)
    d.text(310, 214, "offsets grow to the right; bucket and log overlap", "soft")
    return d


def ack():
    d = Drawing("The high watermark is the lowest end on disk among the replicas in sync; acks=all waits for it, and readers see what is below", 250)
    hw = 130 + 8 * 52
    for y, name, n, sub in ((46, "leader", 10, "broker 1"), (104, "in sync", 9, "broker 2"), (162, "in sync", 8, "broker 3")):
        d.text(118, y + 16, name, "head", "end")
        d.text(118, y + 32, sub, "soft", "end")
        for i in range(n):
            d.box(130 + 52 * i, y, 48, 38, str(i), (), "warm" if i < 8 else "")
    d.mark(hw - 2, 30, 212, "high watermark 8", 24)
    d.text(336, 232, "acked with acks=all, and readable", "soft")
    d.text(hw + 110, 232, "on its way: not readable, not acked", "soft")
    return d


def failover():
    d = Drawing("A failover: broker 1 leads in epoch 4 and dies; broker 2, which is in sync, leads in epoch 5; broker 1 returns as a follower", 224)
    for x, head, rows in (
        (10, "before: epoch 4", (("broker 1", "leads", "hot"), ("broker 2", "in sync", "warm"), ("broker 3", "in sync", "warm"))),
        (266, "broker 1 dies: epoch 5", (("broker 1", "gone", "bad"), ("broker 2", "leads", "hot"), ("broker 3", "in sync", "warm"))),
        (522, "it returns", (("broker 1", "follows, and catches up", "warm"), ("broker 2", "leads", "hot"), ("broker 3", "in sync", "warm"))),
    ):
        d.frame(x, 10, 228, 204, head)
        for i, (name, sub, kind) in enumerate(rows):
            d.box(x + 14, 42 + 56 * i, 200, 46, name, sub, kind)
    d.arrow([(238, 112), (266, 112)])
    d.arrow([(494, 112), (522, 112)])
    return d


def controllers():
    d = Drawing("Controllers agree on the metadata by raft, brokers follow it and send heartbeats, and the metadata log goes to the bucket", 330)
    d.frame(150, 10, 460, 120, "controllers: raft, a majority decides")
    for i, (name, sub) in enumerate((("controller 1", "follows"), ("controller 2", "leads: decides"), ("controller 3", "follows"))):
        d.box(166 + 148 * i, 46, 132, 60, name, sub, "hot" if i == 1 else "")
    d.arrow([(314, 76), (298, 76)])
    d.arrow([(446, 76), (462, 76)])
    for i in range(3):
        x = 166 + 148 * i
        d.box(x, 220, 132, 56, f"broker {i + 1}", "keeps an image", "warm")
        d.arrow([(x + 44, 220), (x + 44, 130)])
        d.arrow([(x + 88, 130), (x + 88, 220)])
    d.text(146, 178, "heartbeats,", "soft", "end")
    d.text(146, 194, "what they ask for", "soft", "end")
    d.text(620, 178, "changes of the", "soft", "start")
    d.text(620, 194, "metadata, pushed", "soft", "start")
    d.box(640, 40, 110, 66, "bucket", ("metadata log,", "a minute behind"), "cold")
    d.arrow([(610, 73), (640, 73)])
    d.text(380, 310, "who leads, who is in sync, which object holds what: one log, the same image everywhere", "soft")
    return d


def bucket():
    d = Drawing("What is in the bucket: below the cluster's prefix a nonce, objects of records, manifests and the metadata log", 300)
    d.frame(10, 10, 740, 280, "<object_storage.prefix>/<cluster id>/")
    d.box(28, 46, 150, 54, "nonce", "which bucket this is")
    d.frame(196, 40, 540, 236, "00000001/  one life of the cluster")
    d.box(212, 74, 240, 60, "data/<xx>/<id>", ("an object: blocks of batches,", "an index, checksums"), "cold")
    d.box(212, 146, 240, 54, "data/<xx>/<id>", "a manifest: a list of older objects", "cold")
    d.box(212, 212, 240, 54, "meta/<number>", "every change of the metadata, in order", "hot")
    d.box(500, 74, 220, 60, "upload", ("small partitions share an object", "of some MiB"))
    d.box(500, 146, 220, 54, "compaction", "objects of 64 MiB, of one partition")
    d.box(500, 212, 220, 54, "recovery", "a lost cluster comes back from it")
    d.arrow([(500, 104), (452, 104)])
    d.arrow([(500, 160), (476, 160), (476, 122), (452, 122)])
    d.arrow([(452, 239), (500, 239)])
    d.box(28, 120, 150, 66, "never changed", ("no key is used twice,", "gone once condemned"), "frame")
    return d


def main():
    where = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "diagrams")
    for draw in (record, tiers, ack, failover, controllers, bucket):
        with open(os.path.join(where, draw.__name__ + ".svg"), "w", encoding="utf-8") as file:
            file.write(draw().svg())


main()
