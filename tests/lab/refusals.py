"""What an operator can get wrong: the play stops with a sentence, and the same command completes after the repair.

All of it is tried on nyc2, a machine that is to become an edge.
"""

import re
import subprocess
import threading

from fleet import (
    CACHE, LAB, RUN, Play, address, check, enter, eventually, hosts, inventory_with_nyc2, is_up, net, nigh, version_of,
)


def add_nyc2(*words, inventory=None):
    inventory = inventory or inventory_with_nyc2()
    return Play("add_edge", "-i", inventory, "-e", "nigh_edges=nyc2", "-e", f"nigh_version={version_of('fra1')}", *words)


def is_in_the_fleet():
    eventually("nyc2 is up", 60, lambda: is_up("nyc2"))


def a_new_machine():
    hosts("down", "nyc2", timeout=120)
    hosts("up", "nyc2", timeout=120)


def away_with_it():
    Play("remove_edge", "-i", inventory_with_nyc2(), "-e", "nigh_edges=nyc2", "-e", f"nigh_version={version_of('fra1')}").good()
    hosts("down", "nyc2", timeout=120)


def an_inventory_that_cannot_work_changes_nothing():
    a_new_machine()
    version = ("-e", f"nigh_version={version_of('fra1')}")

    def without(pattern, by=""):
        def edit(text):
            edited = re.sub(pattern, by, text)
            check(edited != text, f"the inventory has no {pattern}")
            return edited
        return inventory_with_nyc2(edit)

    def is_refused(inventory, words):
        Play("site", "-i", inventory, "--limit", "control,nyc2", *version).bad(words)
        check(enter("nyc2", "ls", "/etc").stdout.split().count("nigh") == 0, "something was written to a machine")

    is_refused(without(r"    nigh_regions:\n(      .*\n)+"), "and the inventory knows where no region is")
    is_refused(without(r"nigh_region: newyork"), "nyc2 is in the region (none)")
    is_refused(without(r"nigh_region: newyork", "nigh_region: atlantis"), "nyc2 is in the region atlantis")
    is_refused(without(r"    nigh_domain: .*\n"), "The inventory needs a host in the group nigh_control")
    is_refused(without(r"(nyc2: {.*) }", r"\1, nigh_ipv4: [nyc2.example.com] }"), "must be the addresses, not names")
    is_refused(without(r"(nyc2: {.*) }", r"\1, nigh_machine: NYC_2 }"), "NYC_2 cannot be the name of a machine")
    is_refused(without(address("nyc2"), "198.18.99.9"), "UNREACHABLE")
    Play("drain").bad("say which")
    # Another system, which has /etc/debian_version as well.
    enter("nyc2", "sh", "-ec", "cp --remove-destination /usr/lib/os-release /etc/os-release; sed -i 's/Debian/Ubuntu/g; s/debian/ubuntu/g' /etc/os-release")
    is_refused(inventory_with_nyc2(), "the roles of nigh are for Debian 12 and newer")
    enter("nyc2", "ln", "-sf", "../usr/lib/os-release", "/etc/os-release")
    add_nyc2("-e", "nigh_version=9.9.9-1").bad("Is nigh_version right?")
    add_nyc2().good()
    is_in_the_fleet()
    # Not where visitors reach it, which only shows from outside.
    add_nyc2("-e", '{"nigh_ipv4": ["198.18.99.9"], "nigh_ipv6": []}').bad("nobody answers at 198.18.99.9 port 80 when control asks")
    add_nyc2().good()
    is_in_the_fleet()
    away_with_it()


def a_full_disk_is_refused_with_a_sentence():
    a_new_machine()
    enter("nyc2", "sh", "-ec", "mkdir -p /var/lib/nigh; mount -t tmpfs -o size=16M,mode=755 none /var/lib/nigh")
    enter("nyc2", "dd", "if=/dev/zero", "of=/var/lib/nigh/fills", "bs=1M", good=False)
    add_nyc2().bad("nyc2 has 0 MB left on the disk at /var/lib/nigh, and 1024 MB are needed. Make room")
    # Nobody looked, and it shows when the edge starts.
    play = add_nyc2("-e", "nigh_disk_free_min_mb=0", "-e", "nigh_wait_s=20").bad("No space left on device")
    check("nyc2" in play.text, "the play does not say where")
    enter("nyc2", "rm", "/var/lib/nigh/fills")
    add_nyc2("-e", "nigh_disk_free_min_mb=0").good()
    is_in_the_fleet()
    away_with_it()


def a_port_of_another_server_is_refused_with_a_sentence():
    a_new_machine()
    enter("nyc2", "systemd-run", "--unit=squatter", "python3", "-m", "http.server", "80")
    eventually("the other server listens", 10, lambda: "80" in enter("nyc2", "ss", "-Hltn", "sport = :80").stdout)
    add_nyc2().bad("Stop and disable it, then run this again")
    enter("nyc2", "systemctl", "stop", "squatter")
    add_nyc2().good()
    is_in_the_fleet()
    away_with_it()


def a_play_that_loses_its_machine_goes_on():
    """Once with the configuration written and nothing started, once with a restart that is owed."""
    a_new_machine()
    disk = RUN / "nyc2/root/etc/nigh"

    def lost_when(holds, *words):
        lost = threading.Thread(target=lambda: (eventually("the play is half-way", 120, holds), net("hole", "nyc2")))
        lost.start()
        add_nyc2(*words).bad("UNREACHABLE")
        lost.join()
        net("unhole", "nyc2")

    lost_when(lambda: (disk / "edge.toml").exists())
    check(enter("nyc2", "systemctl", "is-active", "nigh-edge", good=False).returncode != 0, "it runs already")
    add_nyc2().good()
    is_in_the_fleet()

    pid = enter("nyc2", "systemctl", "show", "-P", "MainPID", "nigh-edge").stdout
    other = ("-e", '{"nigh_edge_config": {"hot_cache": {"capacity_bytes": 1234567}}}')
    lost_when(lambda: "1234567" in (disk / "edge.toml").read_text(), *other)
    check(enter("nyc2", "systemctl", "show", "-P", "MainPID", "nigh-edge").stdout == pid, "it was restarted already")
    add_nyc2(*other).good()
    check(enter("nyc2", "systemctl", "show", "-P", "MainPID", "nigh-edge").stdout != pid, "the restart was forgotten")
    add_nyc2(*other).changed_nothing()
    away_with_it()


def a_token_is_good_once():
    """The same one for a second machine is refused; the play gets another one, and the machine is in."""
    a_new_machine()
    add_nyc2().good()
    token = nigh("edge", "token", "nyc2")["token"]
    for time in ("first", "second"):
        enter("nyc2", "sh", "-ec", "systemctl stop nigh-edge; rm -rf /var/lib/nigh/edge/identity; umask 027; "
              "cat > /etc/nigh/edge.join-token; chgrp nigh-edge /etc/nigh/edge.join-token; systemctl start nigh-edge", given=token)
        if time == "first":
            is_in_the_fleet()

    def says_so():
        said = enter("nyc2", "journalctl", "-u", "nigh-edge", "-n", "20", "-o", "cat").stdout
        check("token" in said and "used" in said, said)
        return True
    eventually("the edge says that its token was used", 30, says_so)
    add_nyc2().good()
    is_in_the_fleet()
    left = enter("nyc2", "ls", "/etc/nigh").stdout
    check("join-token" not in left, f"the token was left: {left}")
    away_with_it()


def a_package_comes_by_its_url():
    """Of a server of HTTP; one that is not what its checksum says is not installed."""
    a_new_machine()
    package = CACHE / "packages" / f"nigh_{version_of('fra1')}_amd64.deb"
    right = (package.parent / f"{package.name}.sha256").read_text().split()[0]
    server = subprocess.Popen(
        [LAB / "net", "exec", "resolver", "python3", "-m", "http.server", "8000", "--directory", str(package.parent)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def fetched(name, checksum):
            return add_nyc2(
                "-e", "nigh_offline_dir=", "-e", f"nigh_package_url=http://{address('resolver')}:8000/{name}",
                "-e", f'{{"nigh_package_sha256": {{"amd64": "{checksum}"}}}}')
        fetched("{{ nigh_package_name }}", "0" * 64).bad("it is damaged or was exchanged")
        fetched("nowhere.deb", right).bad("Is the address right, and does this machine reach it?")
        check(enter("nyc2", "sh", "-c", "command -v nigh", good=False).returncode != 0, "it was installed all the same")
        fetched("{{ nigh_package_name }}", right).good()
    finally:
        server.terminate()
        server.wait()
    is_in_the_fleet()
    away_with_it()


ALL = [
    an_inventory_that_cannot_work_changes_nothing,
    a_full_disk_is_refused_with_a_sentence,
    a_port_of_another_server_is_refused_with_a_sentence,
    a_play_that_loses_its_machine_goes_on,
    a_token_is_good_once,
    a_package_comes_by_its_url,
]
