#!/usr/bin/env python3
"""Visitors of the lab: each looks a name up through the resolver and fetches a page, as a browser does.

    visitors.py --resolver ADDRESS --host HOST --ca FILE --expect TEXT --rate PER_S --report FILE

Every visit asks the resolver (again when it does not answer within 2 s, at most 5 times, as a stub resolver does), opens a connection to one
of the addresses and, if that cannot be had within 1 s, to the next one, and fetches one page over TLS.
It ends on SIGTERM and writes what happened as JSON: visits, lookups and requests that failed, with
their times, and which addresses served. A request that failed after it was sent is a failure even if another
address would have answered.
"""

import argparse
import asyncio
import collections
import json
import os
import signal
import ssl
import struct
import time

LOOKUP_TRY_S = 2
LOOKUP_TRIES = 5
CONNECT_S = 1
ANSWER_S = 10


class LookupFailed(Exception):
    pass


class Answer(asyncio.DatagramProtocol):
    def __init__(self, ended):
        self.ended = ended

    def datagram_received(self, data, address):
        if not self.ended.done():
            self.ended.set_result(data)

    def error_received(self, error):
        if not self.ended.done():
            self.ended.set_exception(error)


def query(name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    number = os.urandom(2)
    return number, number + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def skip_name(data, at):
    while True:
        length = data[at]
        if length >= 0xC0:
            return at + 2
        if length == 0:
            return at + 1
        at += 1 + length


def addresses(data):
    """The IPv4 addresses of a reply (RFC 1035, section 4.1)."""
    flags, questions, answers = struct.unpack("!3H", data[2:8])
    if flags & 0xF:
        raise LookupFailed(f"rcode {flags & 0xF}")
    at = 12
    for _ in range(questions):
        at = skip_name(data, at) + 4
    found = []
    for _ in range(answers):
        at = skip_name(data, at)
        kind, _, _, length = struct.unpack("!2HIH", data[at : at + 10])
        if kind == 1:
            found.append(".".join(map(str, data[at + 10 : at + 14])))
        at += 10 + length
    if not found:
        raise LookupFailed("no address")
    return found


async def look_up(resolver, name):
    loop = asyncio.get_running_loop()
    for _ in range(LOOKUP_TRIES):
        number, message = query(name)
        ended = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(lambda: Answer(ended), remote_addr=(resolver, 53))
        try:
            transport.sendto(message)
            data = await asyncio.wait_for(ended, LOOKUP_TRY_S)
            if data[:2] == number:
                return addresses(data)
        except (asyncio.TimeoutError, OSError):
            pass
        finally:
            transport.close()
    raise LookupFailed("no answer")


class Visits:
    def __init__(self, arguments):
        self.arguments = arguments
        self.context = ssl.create_default_context(cafile=arguments.ca)
        self.began = time.time()
        self.count = 0
        self.lookups_failed, self.requests_failed = [], []
        self.fallbacks = 0
        self.served = collections.Counter()
        self.slowest_ms = 0

    async def visit(self):
        began = time.time()
        self.count += 1
        try:
            found = await look_up(self.arguments.resolver, self.arguments.host)
        except LookupFailed as error:
            self.lookups_failed.append({"at": round(began, 3), "why": str(error)})
            return
        where = "nowhere"
        try:
            reader, writer, where = await self.connect(found)
            await asyncio.wait_for(self.fetch(reader, writer), ANSWER_S)
            self.served[where] += 1
        except Exception as error:  # Whatever it is: the visitor did not get the page.
            why = f"{type(error).__name__}: {error}"
            self.requests_failed.append({"at": round(began, 3), "for_s": round(time.time() - began, 3), "address": where, "why": why})
        self.slowest_ms = max(self.slowest_ms, round((time.time() - began) * 1000))

    async def connect(self, found):
        last = None
        for address in found:
            try:
                # The handshake may wait as long as the page: the connection is there.
                reader, writer = await asyncio.wait_for(asyncio.open_connection(address, 443), CONNECT_S)
            except (asyncio.TimeoutError, OSError) as error:
                last = error
                continue
            self.fallbacks += last is not None
            try:
                await asyncio.wait_for(writer.start_tls(self.context, server_hostname=self.arguments.host), ANSWER_S)
            except BaseException:
                writer.close()
                raise
            return reader, writer, address
        raise ConnectionError(f"none of {found} takes a connection ({type(last).__name__})")

    async def fetch(self, reader, writer):
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {self.arguments.host}\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            answer = await reader.read(-1)
        finally:
            writer.close()
        head = answer.split(b"\r\n", 1)[0]
        if not head.startswith(b"HTTP/1.1 200") or self.arguments.expect.encode() not in answer:
            raise ConnectionError(f"answered {head!r} and {len(answer)} bytes")

    def report(self):
        return {
            "began": self.began,
            "visits": self.count,
            "lookups_failed": self.lookups_failed,
            "requests_failed": self.requests_failed,
            "fallbacks": self.fallbacks,
            "served": dict(self.served),
            "slowest_ms": self.slowest_ms,
        }

    async def run(self):
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        going = set()
        while not ended.is_set():
            task = asyncio.create_task(self.visit())
            going.add(task)
            task.add_done_callback(going.discard)
            try:
                await asyncio.wait_for(ended.wait(), 1 / self.arguments.rate)
            except asyncio.TimeoutError:
                pass
        if going:
            await asyncio.wait(going)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--resolver", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--expect", required=True)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--report", required=True)
    arguments = parser.parse_args()
    visits = Visits(arguments)
    asyncio.run(visits.run())
    with open(arguments.report + ".part", "w") as file:
        json.dump(visits.report(), file)
    os.rename(arguments.report + ".part", arguments.report)


if __name__ == "__main__":
    main()
