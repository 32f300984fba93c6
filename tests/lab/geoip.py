"""Writes a GeoIP file: where each network is.

    geoip.py FILE NETWORK=LATITUDE,LONGITUDE…
"""

import sys

from mmdb_writer import MMDBWriter
from netaddr import IPSet


def main(path, places):
    # IPv4 lies within IPv6, as in the files that people buy.
    writer = MMDBWriter(6, "GeoLite2-City", languages=["en"], description="Places of the lab", ipv4_compatible=True)
    for place in places:
        network, where = place.split("=")
        latitude, longitude = map(float, where.split(","))
        writer.insert_network(IPSet([network]), {"location": {"latitude": latitude, "longitude": longitude}})
    writer.to_db_file(path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
