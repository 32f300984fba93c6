"""Which records does the zone of the fleet need?"""

from __future__ import annotations

import ipaddress

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: zone
short_description: The fleet's zone, with its name servers
description:
  - Makes the zone that the DNS servers of an inventory answer for, as C([[zones]]) of C(control.toml) has it, with an
    address record for each name server.
options:
  _input:
    description: The hosts of the inventory that are DNS servers.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of all hosts.
    type: dict
    required: true
  domain:
    description: The zone's name.
    type: str
    required: true
  records:
    description: More records.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Show the zone
  ansible.builtin.debug:
    msg: "{{ groups['nigh_dns'] | nigh.cdn.zone(hostvars, 'cdn.example.com') }}"
"""

RETURN = r"""
_value:
  description: One zone.
  type: dict
"""


def addresses(host, variables):
    found = [*variables.get("nigh_ipv4", []), *variables.get("nigh_ipv6", [])]
    if not found and "ansible_host" in variables:
        found = [variables["ansible_host"]]
    try:
        found = [ipaddress.ip_address(str(address)) for address in found]
    except ValueError as error:
        raise AnsibleFilterError(f"the DNS server {host}: {error}; set nigh_ipv4 in the inventory")
    if not found:
        raise AnsibleFilterError(f"the DNS server {host} has no address: set ansible_host or nigh_ipv4 in the inventory")
    return found


def zone(hosts, hostvars, domain, records=()):
    if not hosts:
        raise AnsibleFilterError("the inventory has no host in the group nigh_dns; the zone needs one, better two")
    names, glue = [], []
    for host in hosts:
        variables = hostvars[host]
        name = str(variables.get("nigh_machine", host.split(".")[0]))
        names.append(name)
        for address in addresses(host, variables):
            kind = "A" if address.version == 4 else "AAAA"
            glue.append({"name": name, "type": kind, "value": str(address)})
    return {"name": domain, "name_servers": names, "records": [*glue, *records]}


class FilterModule:
    def filters(self):
        return {"zone": zone}
