#!/usr/bin/env python3
"""Holds back every packet between two hosts of the lab as long as a wide network would.

    relay.py TUN RULES PIDFILE

For kernels without sch_netem. The router's kernel routes every packet from a host into the TUN
device; it is written back when its delay has passed, and then delivered. RULES is read again when
it changes, within 50 ms; the first rule that matches counts, in both directions:

    CIDR|* CIDR|* MILLISECONDS [rate=MBIT] [loss=PERCENT] [queue=MILLISECONDS]
"""

import ctypes
import fcntl
import heapq
import ipaddress
import os
import random
import select
import struct
import sys
import time

PACKET_MAX = 9100
LOOK_EVERY_S = 0.05


def options(words):
    given = dict(word.split("=") for word in words if "=" in word)
    number = lambda key, default: float(given.get(key, default))
    return number("rate", 0) * 1e6, number("loss", 0) / 100, number("queue", 200) / 1e3


def read_rules(path):
    """A list of (network, network, (delay_s, rate_bit_s, loss, queue_s)); `None` is any network."""
    rules = []
    with open(path) as lines:
        for line in lines:
            words = line.split("#")[0].split()
            if len(words) < 3:
                continue
            try:
                a, b = (None if w == "*" else ipaddress.ip_network(w, strict=False) for w in words[:2])
                rules.append((a, b, (float(words[2]) / 1e3, *options(words[3:]))))
            except ValueError as error:
                print(f"relay: {line.strip()!r}: {error}", file=sys.stderr, flush=True)
    return rules


def contains(network, address):
    return network is None or (network.version == address.version and address in network)


def link_of(rules, source, target):
    """What applies from one address to another, and when the line is free again."""
    a, b = ipaddress.ip_address(source), ipaddress.ip_address(target)
    for left, right, how in rules:
        if (contains(left, a) and contains(right, b)) or (contains(left, b) and contains(right, a)):
            return [*how, 0.0]
    return [0.0, 0.0, 0.0, 0.2, 0.0]


def addresses(packet):
    version = packet[0] >> 4
    if version == 4 and len(packet) >= 20:
        return packet[12:16], packet[16:20]
    if version == 6 and len(packet) >= 40:
        return packet[8:24], packet[24:40]
    return None


def open_tun(name):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    # TUNSETIFF with IFF_TUN | IFF_NO_PI.
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))
    return tun


class Relay:
    def __init__(self, tun, path):
        self.tun, self.path = tun, path
        self.rules, self.links, self.seen = read_rules(path), {}, os.stat(path).st_mtime_ns
        self.held, self.count = [], 0

    def look(self):
        seen = os.stat(self.path).st_mtime_ns
        if seen != self.seen:
            self.seen, self.rules, self.links = seen, read_rules(self.path), {}

    def send_due(self):
        while self.held and self.held[0][0] <= time.monotonic():
            try:
                os.write(self.tun, heapq.heappop(self.held)[2])
            except OSError:
                pass  # A network loses what it cannot carry.

    def take(self):
        for _ in range(64):
            try:
                packet = os.read(self.tun, PACKET_MAX)
            except BlockingIOError:
                return
            pair = addresses(packet)
            if pair is not None:
                self.hold(pair, packet)

    def hold(self, pair, packet):
        link = self.links.get(pair)
        if link is None:
            link = self.links[pair] = link_of(self.rules, *pair)
        delay, rate, loss, queue, free = link
        now = due = time.monotonic()
        if loss and random.random() < loss:
            return
        if rate:
            due = max(now, free) + len(packet) * 8 / rate
            if due - now > queue:
                return
            link[4] = due
        self.count += 1
        heapq.heappush(self.held, (due + delay, self.count, packet))

    def run(self):
        poll = select.epoll()
        poll.register(self.tun, select.EPOLLIN)
        looked = time.monotonic()
        while True:
            now = time.monotonic()
            if now - looked > LOOK_EVERY_S:
                looked = now
                self.look()
            self.send_due()
            self.take()
            wait = LOOK_EVERY_S
            if self.held:
                wait = min(wait, max(0.0, self.held[0][0] - time.monotonic()))
            if wait < 0.001:
                select.select([self.tun], [], [], wait)  # epoll counts in milliseconds only
            else:
                poll.poll(wait - 0.001 if self.held else wait)


def main():
    name, path, pid_file = sys.argv[1:4]
    tun = open_tun(name)
    ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK: 1 ns
    relay = Relay(tun, path)
    with open(pid_file, "w") as file:
        file.write(str(os.getpid()))
    relay.run()


if __name__ == "__main__":
    main()
