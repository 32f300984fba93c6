"""The lab, as tests see it: hosts, playbooks, control, visitors."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

LAB = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("NIGH_LAB_CACHE", LAB.parent / ".cache" / "lab"))
RUN = pathlib.Path(os.environ.get("NIGH_LAB_RUN", CACHE / "run"))

HOST = "docs.cdn.lab.test"
TEXT = "served by a fleet of real hosts"
REGIONS = ("eu", "us")
EDGES = ("fra1", "fra2", "nyc1", "sin1")
SERVERS = ("ns1", "ns2")


class Failed(Exception):
    """What was promised did not hold."""


def check(holds, what):
    if not holds:
        raise Failed(what)


def run(*command, timeout=600, good=True, environment=None, given=None):
    """Runs a program; its output. With `good`, a failure is one of the test."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, **(environment or {})}, input=given,
    )
    if good and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{tail(done.stdout + done.stderr)}")
    return done


def tail(text, lines=30):
    return "\n".join(text.splitlines()[-lines:])


def eventually(what, within_s, holds):
    """Asks again until it holds. `holds` may raise `Failed`, which counts as not yet."""
    until = time.monotonic() + within_s
    while True:
        try:
            found = holds()
            if found:
                return found
            why = ""
        except Failed as error:
            why = f": {error}"
        if time.monotonic() > until:
            raise Failed(f"not within {within_s} s: {what}{why}")
        time.sleep(0.3)


def net(*words):
    return run(LAB / "net", *words).stdout.strip()


def hosts(*words, **how):
    return run(LAB / "hosts", *words, **how)


def address(name):
    return net("ip", name)


def address6(name):
    return net("ip6", name)


def enter(name, *command, **how):
    """As root on a host, with nothing of this side's environment."""
    return hosts("enter", name, "env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command, **how)


def nigh(*words):
    """What a command prints on control, as JSON."""
    return json.loads(enter("control", "nigh", *words, "--json", "--yes").stdout)


def machines():
    found = nigh("edge", "list")["items"] + nigh("dns", "list")["items"]
    return {machine["name"]: machine for machine in found}


def version_of(name):
    return enter(name, "dpkg-query", "--show", "--showformat=${Version}", "nigh").stdout


def is_up(name):
    machine = machines().get(name)
    return machine is not None and machine["is_connected"] and machine["is_current"]


def all_up(names=EDGES + SERVERS, within_s=60):
    eventually(f"all of {', '.join(names)} are up", within_s, lambda: all(is_up(name) for name in names))


def inventory_with_nyc2(edit=lambda text: text):
    """The inventory with one more edge, as its operator adds a line."""
    text = (LAB / "inventory.yml").read_text()
    line = next(line for line in text.splitlines() if line.strip().startswith("nyc1:"))
    one_more = line.replace("nyc1", "nyc2").replace(address("nyc1"), address("nyc2")).replace(address6("nyc1"), address6("nyc2"))
    text = text.replace(line, f"{line}\n{one_more}").replace("{{ inventory_dir }}/../.cache/lab/packages", str(CACHE / "packages"))
    inventory = RUN / "with-nyc2.yml"
    inventory.write_text(edit(text))
    return inventory


class Play:
    """How a playbook went."""

    def __init__(self, name, *words, timeout=900):
        began = time.monotonic()
        done = run(LAB / "play", name, *words, timeout=timeout, good=False)
        self.took_s = time.monotonic() - began
        self.text = done.stdout + done.stderr
        with (RUN / "plays.log").open("a") as log:
            print(f"$ play {name} {' '.join(map(str, words))}", self.text, sep="\n", file=log)
        self.is_good = done.returncode == 0
        self.changed = {
            host: int(count) for host, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", self.text, re.MULTILINE)
        }

    def good(self):
        check(self.is_good, f"the playbook failed:\n{tail(self.text, 60)}")
        return self

    def bad(self, words):
        """It must stop, and say this."""
        check(not self.is_good, f"the playbook went through:\n{tail(self.text)}")
        said = re.sub(r"\s+", " ", self.text)
        check(words in said, f"the playbook does not say {words!r}:\n{tail(self.text, 60)}")
        return self

    def changed_nothing(self):
        self.good()
        touched = {host: count for host, count in self.changed.items() if count}
        tasks = re.findall(r"^TASK \[(.*?)\].*(?:\n(?!TASK|PLAY).*)*?\nchanged:", self.text, re.MULTILINE)
        check(self.changed, f"the playbook did nothing:\n{tail(self.text)}")
        check(not touched, f"it changed something on {touched}: {tasks}")
        return self


class Visitors:
    """Visitors in every region at the same time, from `with` until its end."""

    def __init__(self, rate=10):
        self.rate, self.reports, self.going = rate, {}, {}

    def __enter__(self):
        ca = RUN / "ca.pem"
        ca.write_text(enter("control", "cat", "/var/lib/nigh/control/ca.pem").stdout)
        for region in REGIONS:
            report = RUN / f"visitors-{region}.json"
            report.unlink(missing_ok=True)
            words = ["--resolver", address("resolver"), "--host", HOST, "--ca", ca, "--expect", TEXT]
            words += ["--rate", self.rate, "--report", report]
            command = [LAB / "net", "exec", f"client-{region}", LAB / "visitors.py", *words]
            self.going[region] = (subprocess.Popen([str(word) for word in command]), report)
        return self

    def __exit__(self, *_):
        for process, _ in self.going.values():
            process.send_signal(signal.SIGTERM)
        for region, (process, report) in self.going.items():
            process.wait(timeout=60)
            if report.exists():
                self.reports[region] = json.loads(report.read_text())

    def all(self, key):
        check(len(self.reports) == len(REGIONS), f"visitors reported from {list(self.reports)} only")
        return [one for report in self.reports.values() for one in report[key]]

    def total(self):
        return sum(report["visits"] for report in self.reports.values())

    def were_all_served(self):
        lookups, requests = self.all("lookups_failed"), self.all("requests_failed")
        for region, report in self.reports.items():
            check(report["visits"] > 0 and report["served"], f"nobody visited from {region}")
        check(not lookups, f"{len(lookups)} lookups failed: {lookups[:5]}")
        check(not requests, f"{len(requests)} of {self.total()} requests failed: {requests[:5]}")

    def said(self):
        served = {region: report["served"] for region, report in self.reports.items()}
        fallbacks = sum(report["fallbacks"] for report in self.reports.values())
        slowest = max(report["slowest_ms"] for report in self.reports.values())
        return f"{self.total()} visits, served {served}, {fallbacks} by another address, slowest {slowest} ms"


def visit(region, family=4):
    """One visit by curl, through the resolver: the text, and the address that served."""
    return run(
        LAB / "net", "exec", f"client-{region}", "curl", f"-{family}", "-sS", "--fail", "--max-time", "5", "--cacert",
        RUN / "ca.pem", "--write-out", "\n%{remote_ip}", f"https://{HOST}/",
    ).stdout.strip().rsplit("\n", 1)


def ask(region, server, *words):
    """What a server at an address answers to a visitor of the region, in short."""
    return run(LAB / "net", "exec", f"client-{region}", "dig", "+short", "+tries=2", "+time=2", f"@{server}", HOST, *words).stdout.split()


def answers(region, server=None):
    """The IPv4 addresses that a visitor's resolver, or a name server, answers with."""
    return ask(region, address(server or "resolver"), "A")
