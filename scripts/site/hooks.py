"""What scripts/site/mkdocs.yml cannot say: pages that lie outside of docs/, links to the sources,
the design records in the menu, diagrams that follow the theme, and llms.txt.

CHANGELOG.md and CONTRIBUTING.md become pages; of every other file that a page links to outside of
docs/ a copy lies in the site under source/, so that links lead somewhere without a network.
"""

import os
import posixpath
import re

from mkdocs.structure.files import File

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
WHOLE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def outside(src, target):
    """The path in the repository of what a page links to, or None for a page or a URL."""
    if "://" in target or target.startswith("mailto:"):
        return None
    of = next((path for path, page in WHOLE.items() if page == src and page != "index.md"), "docs/" + src)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(of), target))
    return path


def in_site(path):
    if path.startswith("docs/"):
        return path[len("docs/"):]
    return WHOLE.get(path, "source/" + path + ".txt")


def on_config(config):
    records = sorted(name for name in os.listdir(os.path.join(ROOT, "docs/design")) if name[0].isdigit())
    for section in config.nav:
        for name, pages in section.items() if isinstance(section, dict) else ():
            if name == "Inside":
                pages[pages.index("design/index.md")] = {"Design records": ["design/index.md"] + ["design/" + r for r in records]}
    return config


def on_files(files, config):
    for path in ("CHANGELOG.md", "CONTRIBUTING.md"):
        files.append(File.generated(config, WHOLE[path], content=read(path)))
    sources = set()
    for file in files.documentation_pages():
        for _, target, _ in LINK.findall(file.content_string):
            path = outside(file.src_uri, target)
            if path and not path.startswith("docs/") and path not in WHOLE and os.path.isfile(os.path.join(ROOT, path)):
                sources.add(path)
    for path in sorted(sources):
        files.append(File.generated(config, in_site(path), content=read(path)))
    files.append(File.generated(config, "assets/iframe-worker.js", content=read("build/iframe-worker/shim/index.js")))
    return files


def on_page_markdown(markdown, page, config, files):
    def mend(found):
        path = outside(page.file.src_uri, found[2])
        if path is None:
            return found[0]
        return found[1] + posixpath.relpath(in_site(path), posixpath.dirname(page.file.src_uri) or ".") + found[3]

    return LINK.sub(mend, markdown)


def on_page_content(html, page, config, files):
    """Diagrams are drawn into the page, where they have the colours of the theme that is chosen."""

    def draw(found):
        return re.sub(r"@media \(prefers-color-scheme: dark\) \{ (svg\.d \{.*?\}) \}", r'[data-md-color-scheme="slate"] \1', read("docs/diagrams/" + found[1]))

    return re.sub(r'<img[^>]*src="(?:\.\./)*diagrams/([a-z-]+\.svg)"[^>]*>', draw, html)


def on_env(env, config, files):
    """llms.txt: every page by its title, in the order of the menu."""
    lines, section = ["# rustmq", "", "> " + config.site_description, ""], None
    page = next(file.page for file in files.documentation_pages() if file.page.is_homepage)
    while page:
        if page.parent and page.parent.title != section:
            section = page.parent.title
            lines += ["", "## " + section, ""]
        lines.append(f"- [{page.title}]({page.url})")
        page = page.next_page
    os.makedirs(config.site_dir, exist_ok=True)
    with open(os.path.join(config.site_dir, "llms.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return env
