"""``python -m mnist_exp settings [KEY ...]``: every key with its meaning, range and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mnist_exp.app.commands import argument_parser
from mnist_exp.app.hints import hint
from mnist_exp.app.options import Option, Settings, read_options, root_settings
from mnist_exp.errors import UserError
from mnist_exp.schema.keys import ENTRIES, RULES, rules_for

PAGE = """\
# Settings

Every key of [`conf/`](../conf): what it means, what is allowed, its default, and the options that
have it. `python -m mnist_exp settings KEY` prints the same for a key or a group. This page is
written by `python -m mnist_exp settings --markdown`, from the rules in
[`mnist_exp/schema`](../mnist_exp/schema) and the comments in `conf/`.

A wrong value, or a key that nothing reads, is refused before anything is written. Your own values
for interpolations go under `extra`:

```bash
python -m mnist_exp model=mlp '+extra.width=64' 'model.hidden_sizes=[${extra.width},${extra.width}]'
```

An environment variable is read as YAML, so that numbers are numbers: `'seed=${oc.env:SEED}'`.
Hydra's own values can be used too: `'data.root=${hydra:runtime.cwd}/data'`.
"""


@dataclass
class Entry:
    """A key: its rule in words, its meaning, and its value by option ("" for config.yaml)."""

    key: str
    allowed: str
    meaning: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The group, or a section of config.yaml; "" if the key belongs to none."""
        group = self.key.partition(".")[0]
        return group if "." in self.key or RULES.get(group) is ENTRIES else ""


def entries() -> list[Entry]:
    """Return every key, those of config.yaml first; twice where options mean different things."""
    root = root_settings()
    found: dict[tuple[str, ...], Entry] = {}
    rules = rules_for({})
    for key, setting in root.items():
        allowed = rules[key].allowed if key in rules else ""
        found[key, allowed] = Entry(key, allowed, setting.comment, {"": setting.text})
    for option in read_options():
        rules = rules_for(_nested(option.settings))
        for key, setting in option.settings.items():
            if key.startswith("hydra.") or key.endswith("_target_") or not _of(option, key, root):
                continue
            allowed = rules[key].allowed if key in rules else ""
            same = (key, allowed) if key in root else (key, allowed, setting.comment)
            entry = found.setdefault(same, Entry(key, allowed, setting.comment))
            entry.values[str(option)] = setting.text
    groups = list(dict.fromkeys(entry.group for entry in found.values()))
    keys = list(dict.fromkeys(entry.key for entry in found.values()))
    return sorted(
        found.values(), key=lambda entry: (groups.index(entry.group), keys.index(entry.key))
    )


def _of(option: Option, key: str, root: Settings) -> bool:
    """Whether an option declares the key, or sets it otherwise than config.yaml."""
    if key.startswith(f"{option.group}."):
        return True
    return key in root and root[key].text != option.settings[key].text


def _nested(settings: Settings) -> dict[str, object]:
    nested: dict[str, object] = {}
    for key, setting in settings.items():
        *groups, name = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})  # type: ignore[assignment]
        place[name] = setting.value
    return nested


def main(arguments: list[str]) -> int:
    """Print the settings whose key is or starts with one of the arguments."""
    parser = argument_parser("settings")
    parser.add_argument("keys", nargs="*", metavar="KEY", help="a key or a group (default: all)")
    parser.add_argument("--markdown", action="store_true", help="print docs/settings.md")
    given = parser.parse_args(arguments)
    if given.markdown:
        print("\n".join(page()))
        return 0
    known = entries()
    for key in given.keys:
        if not any(_below(entry.key, key) for entry in known):
            keys = dict.fromkeys(entry.key for entry in known)
            raise UserError(f"{key}: there is no such key; {hint(key, keys)}")
    for entry in known:
        if not given.keys or any(_below(entry.key, key) for key in given.keys):
            print("\n".join(lines(entry)))
    return 0


def _below(key: str, asked: str) -> bool:
    return f"{key}.".startswith(f"{asked}.")


def lines(entry: Entry) -> Iterator[str]:
    """Yield the lines that describe a key on the terminal."""
    values = dict(entry.values)
    default = values.pop("", None)
    yield entry.key if default is None else f"{entry.key}={default}"
    for line in (entry.meaning, entry.allowed and f"allowed: {entry.allowed}"):
        if line:
            yield f"    {line}"
    if values:
        yield f"    {_by_value(values)}"


def _by_value(values: dict[str, str]) -> str:
    """Return ``1e-3 with optimizer=adam, adamw; 0.1 with optimizer=sgd``."""
    having: dict[str, list[str]] = {}
    for option, value in values.items():
        having.setdefault(value, []).append(option)
    return "; ".join(f"{value} with {_joined(options)}" for value, options in having.items())


def _joined(options: Sequence[str]) -> str:
    """Return options with each group named once: ``optimizer=adam, adamw, debug=fast``."""
    before, parts = "", []
    for option in options:
        group, _, name = option.partition("=")
        parts.append(name if group == before else option)
        before = group
    return ", ".join(parts)


def page() -> Iterator[str]:
    """Yield the lines of docs/settings.md."""
    yield PAGE.rstrip("\n")
    group = None
    for entry in entries():
        if entry.group != group:
            group = entry.group
            yield from ("", f"## {group or 'In no group'}", "")
            yield from ("| key | meaning | allowed | default |", "|---|---|---|---|")
        values = dict(entry.values)
        default = values.pop("", None)
        told = [] if default is None else [f"`{default}`"]
        told += [_by_value(values)] if values else []
        cells = (f"`{entry.key}`", entry.meaning, entry.allowed, "; ".join(told))
        yield f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Return text for the cell of a Markdown table."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("_target_", r"\_target_")
