"""Sends frames through a bridge and says where each came out.

In, as JSON: the nft script, and steps: the interface to send at, the frame in hexadecimal, the interfaces expected. A step at "host" has a shell command
for the host to run in place of a frame. "known" gives bytes by which to know the packet that is looked for, where it is not the frame itself. Out, as
JSON: for each step the interfaces that received what was looked for. Runs in a network namespace of its own: two guests g0 and g1 behind vnet0 and vnet1 on the bridge br0, which is
the host's interface.
"""
import json
import select
import socket
import subprocess
import sys
import time

OUTGOING = 4
EVERY_PROTOCOL = 0x0300  # ETH_P_ALL in network order


def run(command, text=None):
    done = subprocess.run(command, shell=True, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")


def build():
    # Nobody speaks but the test.
    for kind in ("default", "all"):
        subprocess.run(f"echo 1 > /proc/sys/net/ipv6/conf/{kind}/disable_ipv6", shell=True)
    run("ip link set lo up")
    run("ip link add br0 address 52:54:00:00:00:fe type bridge forward_delay 0 stp_state 0 mcast_snooping 0")
    run("ip address add 192.168.122.1/24 dev br0")
    run("ip link set br0 up")
    # The host knows the guests without asking.
    for n in (0, 1):
        run(f"ip neighbour add 192.168.122.{10 * (n + 1)} lladdr 52:54:00:00:00:0{n + 1} dev br0 nud permanent")
    for n in (0, 1):
        run(f"ip link add vnet{n} type veth peer name g{n}")
        run(f"ip link set vnet{n} master br0 up")
        run(f"ip link set g{n} arp off up")
        # Where each guest is need not be learned first.
        run(f"bridge fdb add 52:54:00:00:00:0{n + 1} dev vnet{n} master static")


def listen(name):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(EVERY_PROTOCOL))
    sock.bind((name, 0x0003))
    return sock


def receive(sockets, wanted, wait):
    """Names of those that receive a wanted frame before the time is over."""
    seen = set()
    end = time.monotonic() + wait
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select(list(sockets), [], [], left)
        for sock in ready:
            data, address = sock.recvfrom(65536)
            if address[2] != OUTGOING and wanted(data):
                seen.add(sockets[sock])
    return seen


def main():
    order = json.load(sys.stdin)
    build()
    sockets = {listen(name): name for name in ("g0", "g1", "br0")}
    by_name = {name: sock for sock, name in sockets.items()}
    run("nft -f -", order["nft"])
    time.sleep(0.2)
    out = []
    for step in order["steps"]:
        frame, known = bytes.fromhex(step["frame"]), bytes.fromhex(step["known"])
        expected = set(step["expected"])
        if step["at"] == "host":
            # It need not succeed: what it sends is what counts.
            subprocess.Popen(step["command"], shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            by_name[step["at"]].send(frame)
        wanted = (lambda data: known in data) if known else (lambda data: data == frame)
        seen = receive(sockets, wanted, 0.06)
        # A command takes its time to start in an emulated machine.
        for _ in range(100 if step["at"] == "host" else 20):
            if expected <= seen:
                break
            seen |= receive(sockets, wanted, 0.1)
        out.append(sorted(seen))
    json.dump(out, sys.stdout)


main()
