"""Writes configuration files of nigh from variables."""

from __future__ import annotations

import json
import re

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: to_toml
short_description: Write a dictionary as TOML
description:
  - Writes a dictionary as TOML, keys of a table before the tables in it. Keys whose value is null are left out.
options:
  _input:
    description: The dictionary.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write a configuration
  ansible.builtin.copy:
    content: "{{ {'name': 'fra1', 'log': {'format': 'json'}} | nigh.cdn.to_toml }}"
    dest: /etc/nigh/edge.toml
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The text of a TOML document.
  type: str
"""

BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def key(name):
    return name if BARE.match(name) else json.dumps(name)


def value(what, path):
    if isinstance(what, bool):
        return "true" if what else "false"
    if isinstance(what, (int, float)):
        return repr(what)
    if isinstance(what, str):
        return json.dumps(str(what), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(what, (list, tuple)):
        return "[" + ", ".join(value(item, path) for item in what) + "]"
    if isinstance(what, dict):
        return "{ " + ", ".join(f"{key(k)} = {value(v, path)}" for k, v in what.items() if v is not None) + " }"
    raise AnsibleFilterError(f"{path} holds a {type(what).__name__}, which TOML has no form for")


def is_tables(what):
    return isinstance(what, (list, tuple)) and len(what) > 0 and all(isinstance(item, dict) for item in what)


def table(what, path):
    """The lines of one table: its own keys, then tables, then lists of tables."""
    lines = []
    for name, item in what.items():
        if item is not None and not isinstance(item, dict) and not is_tables(item):
            lines.append(f"{key(name)} = {value(item, '.'.join([*path, name]))}")
    for name, item in what.items():
        inner = [*path, key(name)]
        if isinstance(item, dict):
            lines += ["", f"[{'.'.join(inner)}]", *table(item, inner)]
        elif is_tables(item):
            for one in item:
                lines += ["", f"[[{'.'.join(inner)}]]", *table(one, inner)]
    return lines


def to_toml(what):
    if not isinstance(what, dict):
        raise AnsibleFilterError(f"to_toml wants a dictionary, not a {type(what).__name__}")
    return "\n".join(table(what, [])).lstrip("\n") + "\n"


class FilterModule:
    def filters(self):
        return {"to_toml": to_toml}
