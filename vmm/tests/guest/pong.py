# Says that it waits, brings the interface up, takes one "ping" of the experimental ethernet type, answers "pong", prints the sender.
import socket, subprocess, sys, time

interface, patience = sys.argv[1], float(sys.argv[2])
end = time.time() + patience
print("waiting", flush=True)
while subprocess.run(["ip", "link", "set", interface, "up"], capture_output=True).returncode:
    if time.time() > end:
        sys.exit("no interface " + interface)
    time.sleep(0.01)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
wire.bind((interface, 0x88B5))
wire.settimeout(max(1, end - time.time()))
frame = wire.recv(2000)
if frame[14:18] != b"ping":
    sys.exit(f"not a ping: {frame!r}")
wire.send((frame[6:12] + frame[6:12] + b"\x88\xb5pong").ljust(60, b"\0"))
print(frame[6:12].hex(":"))
