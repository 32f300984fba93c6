"""Reads what a role of nigh says of itself."""

from __future__ import annotations

import re

DOCUMENTATION = r"""
name: metric
short_description: The sum of a metric
description:
  - The sum over all series of one metric in the Prometheus text of a C(/metrics) page; 0 when there is none.
options:
  _input:
    description: The text.
    type: str
    required: true
  name:
    description: The metric.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say how many connections are open
  ansible.builtin.debug:
    msg: "{{ page.content | nigh.cdn.metric('nigh_edge_connections') }}"
"""

RETURN = r"""
_value:
  description: The sum.
  type: float
"""


def metric(text, name):
    line = re.compile(re.escape(name) + r"(?:\{[^}]*\})? ([^ \n]+)")
    found = (line.match(one) for one in text.splitlines())
    return sum(float(match.group(1)) for match in found if match)


class FilterModule:
    def filters(self):
        return {"metric": metric}
