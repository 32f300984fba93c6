"""The machines that control knows, as an inventory."""

from __future__ import annotations

import json
import os
import subprocess

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

DOCUMENTATION = r"""
name: fleet
short_description: Machines of a nigh fleet
description:
  - Asks C(nigh edge list --json) and C(nigh dns list --json) which machines there are.
  - Edges are in the group C(nigh_edge), DNS servers in C(nigh_dns), each also in C(region_NAME) of its region and
    all in C(nigh).
  - The file's name must end in C(fleet.yml) or C(fleet.yaml).
  - How control is reached and with which token is said as for any nigh command, by a profile or by the environment.
extends_documentation_fragment:
  - constructed
options:
  plugin:
    description: Always C(nigh.cdn.fleet).
    required: true
    choices: [nigh.cdn.fleet]
  command:
    description: The program to ask.
    default: nigh
  profile:
    description: A profile of the user configuration of nigh.
  timeout:
    description: How many seconds an answer may take.
    type: int
    default: 20
"""

EXAMPLES = r"""
# fleet.yml
plugin: nigh.cdn.fleet
profile: production
"""

ROLES = {"edge": "nigh_edge", "dns": "nigh_dns"}


class InventoryModule(BaseInventoryPlugin, Constructable):
    NAME = "nigh.cdn.fleet"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(("fleet.yml", "fleet.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.inventory.add_group("nigh")
        for role, group in ROLES.items():
            self.inventory.add_group(group)
            self.inventory.add_child("nigh", group)
            for machine in self.ask(role):
                self.add(machine, group)

    def ask(self, role):
        command = [self.get_option("command"), role, "list", "--json", "--non-interactive"]
        if self.get_option("profile"):
            command += ["--profile", self.get_option("profile")]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self.get_option("timeout"), env=os.environ, check=False
            )
        except FileNotFoundError:
            raise AnsibleParserError(f"{command[0]} is not on this machine: install the package nigh, or set command")
        except subprocess.TimeoutExpired:
            raise AnsibleParserError(f"{' '.join(command)} did not answer within {self.get_option('timeout')} s")
        if done.returncode != 0:
            raise AnsibleParserError(f"{' '.join(command)} failed: {(done.stdout + done.stderr).strip()}")
        return json.loads(done.stdout)["items"]

    def add(self, machine, group):
        name = machine["name"]
        self.inventory.add_host(name, group=group)
        said = {
            "nigh_machine": name,
            "nigh_version_running": machine["version"],
            "nigh_is_connected": machine["is_connected"],
            "nigh_is_drained": machine["is_drained"],
            "nigh_ipv4": [address for address in machine["addresses"] if ":" not in address],
            "nigh_ipv6": [address for address in machine["addresses"] if ":" in address],
        }
        if machine["addresses"]:
            said["ansible_host"] = machine["addresses"][0]
        if machine.get("region"):
            said["nigh_region"] = machine["region"]
            region = self.inventory.add_group(self._sanitize_group_name("region_" + machine["region"]))
            self.inventory.add_child(region, name)
        for key, value in said.items():
            self.inventory.set_variable(name, key, value)
        strict = self.get_option("strict")
        variables = self.inventory.get_host(name).get_vars()
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)
