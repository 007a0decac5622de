"""Holds that what the pages point at is there.

Usage: pages.py [SITE]. Of every Markdown file that git knows: links to files and headings, with
anchors as GitHub and the site make them, and the form of links elsewhere, which are not followed.
Of every other file: the pages of docs/ that it names, with their headings. Of docs/architecture.md:
the rooms, files and tests that it names. Of docs/index.md: that it leads to every page. Of
docs/design/index.md: that it has every record, by its title. Of docs/clients.md: the versions that
the suites have pinned. With SITE, the directory of the built site: that every link and anchor of its
HTML leads somewhere, and that nothing is fetched from elsewhere.
"""

import html.parser
import os
import re
import subprocess
import sys
import urllib.parse

problems = []
files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
files = [name for name in files if os.path.isfile(name)]
there = set(files) | {os.path.dirname(name) for name in files}
for directory in list(there):
    while directory:
        there.add(directory)
        directory = os.path.dirname(directory)


def text_of(name):
    try:
        with open(name, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        return ""


def prose(text):
    """The text without code, in which a bracket is no link: as many lines as before."""
    text = re.sub(r"^( *)(```+|~~~+).*?^ *\2", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", lambda m: "`" + "\n" * m[0].count("\n"), text, flags=re.S)


def headings(name, cache={}):
    if name not in cache:
        found, seen = set(), {}
        text = re.sub(r"^ *```.*?^ *```", "", text_of(name), flags=re.M | re.S)
        for title in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.M):
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
            slug = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
            n = seen[slug] = seen.get(slug, -1) + 1
            found.add(f"{slug}-{n}" if n else slug)
        cache[name] = found
    return cache[name]


links = outside = 0
for name in files:
    if not name.endswith(".md"):
        continue
    text = prose(text_of(name))
    for found in re.finditer(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|<((?:https?|mailto):[^>\s]*)>", text):
        target = found[1] or found[2] or found[3]
        where = f"{name}:{text.count(chr(10), 0, found.start()) + 1}"
        if re.match(r"[a-z][a-z+.-]*:", target):
            outside += 1
            url = urllib.parse.urlsplit(target)
            local = url.hostname in ("127.0.0.1", "localhost")
            if url.scheme not in ("https", "mailto") and not (url.scheme == "http" and local) or url.scheme == "https" and "." not in (url.hostname or ""):
                problems.append(f"{where}: {target} is not a link as it should be: https, and a host")
            continue
        links += 1
        path, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(name), urllib.parse.unquote(path))) if path else name
        if path not in there:
            problems.append(f"{where}: {target} is not there")
        elif name.startswith("docs/") and path not in files:
            problems.append(f"{where}: {target} is a directory, of which the site has nothing: name a file in it")
        elif anchor and path.endswith(".md") and anchor not in headings(path):
            problems.append(f"{where}: {path} has no heading #{anchor}")

# What code, scripts and pages say in words: docs/page.md, docs/page.md#heading.
named = 0
for name in files:
    if name.startswith(("CHANGELOG.md", "test/docs/", "scripts/site/")) or name.endswith((".svg", ".json", ".wasm")):
        continue
    for page, anchor in re.findall(r"(?<![\w./-])docs/((?:[\w-]+/)*[\w.-]+\.md)(#[\w-]+)?", text_of(name)):
        if "test/compat" in name and page not in ("kafka-compatibility.md",):
            continue
        named += 1
        if "docs/" + page not in there:
            problems.append(f"{name} names docs/{page}, which is not there")
        elif anchor and anchor[1:] not in headings("docs/" + page):
            problems.append(f"{name} names docs/{page}{anchor}, and there is no such heading")

architecture = text_of("docs/architecture.md")
tops = {name.split("/")[0] for name in files if "/" in name}
rooms = 0
for room, rest in re.findall(r"`([\w-]+(?:/[\w.*-]+)*)`((?::| decides,| tells)(?: *[\w./-]+\.go,?(?: and)?)+)?", architecture):
    if room.split("/")[0] not in tops or "*" in room:
        continue
    rooms += 1
    if room not in there:
        problems.append(f"docs/architecture.md names `{room}`, which is not there")
    for file in re.findall(r"[\w./-]+\.go", rest):
        if f"{room}/{file}" not in there:
            problems.append(f"docs/architecture.md names {file} of `{room}`, which is not there")
_, _, facts = architecture.partition("## Non-obvious")
tests = set(re.findall(r"`(Test\w+)`", architecture))
defined = set()
for name in files:
    if name.endswith("_test.go"):
        defined |= set(re.findall(r"^func (Test\w+)\(", text_of(name), re.M))
problems += [f"docs/architecture.md names {test}, which is no test" for test in sorted(tests - defined)]

start = text_of("docs/index.md")
problems += [f"docs/index.md leads to every page, and not to {name}" for name in files if re.fullmatch(r"docs/(reference/)?[\w-]+\.md", name) and name != "docs/index.md" and f"({name[5:]}" not in start]

index = text_of("docs/design/index.md")
for name in files:
    record = re.fullmatch(r"docs/design/((\d{4})-[\w-]+\.md)", name)
    if record:
        title = re.match(r"# (\d{4}): (.+)", text_of(name))
        if not title or title[1] != record[2] or f"| {record[2]} | [{title[2]}]({record[1]}) |" not in index:
            problems.append(f"docs/design/index.md does not have {name} by its title")

clients = text_of("docs/clients.md")
for pin, pattern in (
    ("test/compat/python/requirements.txt", r"==([\d.]+)"),
    ("test/compat/js/package.json", r'"kafkajs": "([\d.]+)"'),
    ("test/compat/java/pom.xml", r"<artifactId>kafka-clients</artifactId>\s*<version>([\d.]+)"),
    ("go.mod", r"franz-go v([\d.]+)"),
):
    versions = re.findall(pattern, text_of(pin))
    if not versions:
        problems.append(f"{pin} pins no version as {pattern}")
    problems += [f"docs/clients.md does not name {v}, which {pin} has" for v in versions if f"| {v} |" not in clients]


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag in ("a", "area") and a.get("href"):
            self.links.append(a["href"])
        loads = [a.get("src"), a.get("data"), a.get("poster")] if tag != "a" else []
        if tag == "link" and a.get("rel") not in ("canonical", "prev", "next"):
            loads.append(a.get("href"))
        self.loads += [x for x in loads if x]


pages = {}
if len(sys.argv) > 1:
    site = sys.argv[1]
    for directory, _, names in os.walk(site):
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(".html"):
                pages[path] = Page()
                pages[path].feed(text_of(path))
            elif name.endswith((".css", ".js")):
                for url in re.findall(r"(?:@import|url\()\s*[\"']?(https?:[^\"')]+)", text_of(path)):
                    problems.append(f"{path} fetches {url}")
    for path, page in pages.items():
        if os.path.basename(path) == "404.html":
            continue  # its links begin at the root of wherever it lies
        for url in page.links + page.loads:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme or url.startswith("//"):
                if url in page.loads and parts.scheme != "data":
                    problems.append(f"{path} fetches {url}")
                continue
            to = os.path.normpath(os.path.join(os.path.dirname(path), urllib.parse.unquote(parts.path))) if parts.path else path
            if os.path.isdir(to):
                to = os.path.join(to, "index.html")
            if not os.path.exists(to):
                problems.append(f"{path} leads to {url}, which is not there")
            elif parts.fragment and to in pages and urllib.parse.unquote(parts.fragment) not in pages[to].ids:
                problems.append(f"{path} leads to {url}, and there is no such place")
    if len(pages) < 40:
        problems.append(f"the site in {site} has {len(pages)} pages")

if links < 200 or named < 50 or rooms < 100 or len(tests) < 40:
    problems.append(f"too little was looked at: {links} links, {named} names of pages, {rooms} rooms, {len(tests)} tests")
if problems:
    print("\n".join(problems))
    sys.exit(f"pages: {len(problems)} problems")
print(f"pages: {links} links, {outside} to elsewhere, {named} names of pages in code and prose, {rooms} rooms, {len(tests)} tests, {len(pages)} pages of the site: all there")
