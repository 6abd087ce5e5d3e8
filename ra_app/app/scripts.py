"""The script of the review screen: the modules of static/js/review as one file.

Browsers would fetch each module by a request of its own, one level of imports after the other. The modules stay apart
in the sources; here their imports of each other and their comments are removed, and they are put in order. So a name at
the top of a module must not stand at the top of another one. The address carries a fingerprint, as those of static
files do.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z_]+)\.js";\n', re.MULTILINE)
_NAME = re.compile(r"^(?:const|let|class|function|async function) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=class |const |function |async function )", re.MULTILINE)


def joined(entry: Path) -> str:
    """Return this module and those that it imports, directly or not, each once and before it is needed.

    Raises
    ------
    ValueError
        Two modules import each other, a module imports or exports in another way, or a name stands at the top of two.
    """
    done: dict[Path, str] = {}
    _add(entry, done, ())
    text = "".join(done.values())
    twice = [name for name, times in Counter(_NAME.findall(text)).items() if times > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} stands at the top of two modules; give it another name in one of them")
    return text


def _add(path: Path, done: dict[Path, str], above: tuple[Path, ...]) -> None:
    if path in above:
        raise ValueError(f"{path.name} imports itself by way of {', '.join(module.name for module in above)}")
    if path in done:
        return
    text = path.read_text(encoding="utf-8")
    for name in _IMPORT.findall(text):
        _add(path.with_name(f"{name}.js"), done, (*above, path))
    text = _COMMENT.sub("", _EXPORT.sub("", _IMPORT.sub("", text)))
    left = re.search(r"^(import|export)\b.*", text, re.MULTILINE)
    if left is not None:
        raise ValueError(f"{path.name} has a line that is not understood here: {left[0]}")
    done[path] = text


@lru_cache(maxsize=8)
def _script(entry: Path, _changed: float) -> tuple[str, str]:
    text = joined(entry)
    return text, hashlib.sha256(text.encode()).hexdigest()[:12]


def script(entry: Path) -> tuple[str, str]:
    """Return the joined script and its fingerprint."""
    return _script(entry, max(module.stat().st_mtime for module in entry.parent.glob("*.js")))
