"""MkDocs hook: files of the repository that a page links to become pages of the site, so that links work everywhere.

`[memory.py](../src/fartrack/memory.py)` is right in a checkout and on a forge as it stands; the site gets
`source/src/fartrack/memory.md` with the file in it, and the link leads there.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(\.\./([^)#\s]+)\)")
LANGUAGES = {".py": "python", ".ts": "typescript", ".json": "json", ".yml": "yaml", ".toml": "toml", ".html": "html"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file outside docs/ that some page links to."""
    linked = {
        path
        for file in files.documentation_pages()
        for path in LINK.findall(file.content_string)
        if (ROOT / path).is_file()
    }
    for path in sorted(linked):
        text = (ROOT / path).read_text(encoding="utf-8")
        fence = "`" * max(3, max(map(len, re.findall("`+", text)), default=0) + 1)
        page = f"# {path}\n\n{fence}{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n{fence}\n"
        files.append(File.generated(config, f"source/{path}.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to such files to their pages; a link to what is not there stays as it is, and fails the build."""
    if page.file.src_uri.startswith("source/"):
        return markdown
    here = posixpath.dirname(page.file.src_uri) or "."

    def there(link: re.Match[str]) -> str:
        if not (ROOT / link[1]).is_file():
            return link[0]
        return f"]({posixpath.relpath(f'source/{link[1]}.md', here)})"

    return LINK.sub(there, markdown)
