"""Links to files outside ``docs/`` lead to pages that show them; quotations get such a link."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]*)")
QUOTATION = re.compile(r"^```python\n# (mnist_exp/[\w/]+\.py): (\w+)\n(.*?)^```$", re.M | re.S)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".c": "c", ".h": "c", ".md": "markdown"}
HEAD = "---\nsearch: {exclude: true}\n---\n\n"
FENCE = "~~~~~~~~"


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add a page for each file or folder outside ``docs/`` that a page links to or quotes."""
    root = Path(config.docs_dir).parent
    targets: set[str] = set()
    for file in files.documentation_pages():
        text = file.content_string
        found = (outside(file.src_uri, link) for link in LINK.findall(text))
        targets |= {target for target in found if target is not None}
        targets |= {quotation[1] for quotation in QUOTATION.finditer(text)}
    for target in sorted(targets - {"README.md"}):  # which has a page of its own
        page = File.generated(
            config,
            page_of(target),
            content=HEAD + listing(root, target),
            inclusion=InclusionLevel.NOT_IN_NAV,
        )
        files.append(page)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the page's links lead to the pages of `on_files`, and name the source of quotations."""
    uri = page.file.src_uri
    if uri.startswith("sources/"):
        return markdown
    if not uri.startswith("notebooks/"):  # whose pages offer the file itself
        markdown = re.sub(r"(\]\(notebooks/\w+)\.ipynb\)", r"\1.md)", markdown)

    def link(found: re.Match[str]) -> str:
        target = outside(uri, found[1])
        return found[1] if target is None else relative(uri, page_of(target))

    def quotation(found: re.Match[str]) -> str:
        path, symbol, code = found.groups()
        line = line_of(code, (Path(config.docs_dir).parent / path).read_text())
        href = relative(uri, page_of(path)).removesuffix(".md") + ".html"
        place = f"{path}, line {line}: {symbol}"
        anchor = f'<a href="{href}#__codelineno-0-{line}"><code>{place}</code></a>'
        return f'<p class="quotation">{anchor}</p>\n\n```python\n{code}```'

    return QUOTATION.sub(quotation, LINK.sub(link, markdown))


def outside(uri: str, link: str) -> str | None:
    """Return the path in the repository that a page's link means; None: the path is a page's."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), link))
    return None if path.startswith("docs/") else path


def page_of(path: str) -> str:
    """Return the page that shows a file or folder of the repository."""
    return "readme.md" if path == "README.md" else f"sources/{path}.md"


def relative(uri: str, page: str) -> str:
    """Return the link from one page to another."""
    return posixpath.relpath(page, posixpath.dirname(uri) or ".")


def listing(root: Path, target: str) -> str:
    """Return a page with the text of a file, or of all files in a folder."""
    path = root / target
    if path.is_file():
        return f"# {target}\n\n{listed(path)}"
    found = sorted(file for file in path.rglob("*") if file.suffix in LANGUAGES)
    if not found:
        raise PluginError(f"{target}: a page links to it, but there is nothing to show")
    parts = (f"## {file.relative_to(root)}\n\n{listed(file)}" for file in found)
    return f"# {target}\n\n" + "\n".join(parts)


def listed(path: Path) -> str:
    """Return a file as a fenced block with line numbers."""
    language = LANGUAGES.get(path.suffix, "text")
    return f'{FENCE}{language} linenums="1"\n{path.read_text()}\n{FENCE}\n'


def line_of(code: str, source: str) -> int:
    """Return the line of a file on which a quotation starts."""
    first = code.lstrip().partition("\n")[0]
    lines = [line.strip() for line in source.splitlines()]
    return lines.index(first) + 1
