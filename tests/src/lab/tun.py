"""One end of a link of two tun interfaces: python3 -c ... SOCKET

The first to come listens on the socket, the second connects to it."""

import fcntl, os, select, socket, struct, sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
path = sys.argv[1]
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    link.connect(path)
    print("ready", flush=True)
except OSError:
    link.bind(path)
    link.listen(1)
    print("ready", flush=True)
    link = link.accept()[0]
while True:
    readable, _, _ = select.select([tun, link], [], [])
    if tun in readable:
        link.send(os.read(tun, 65536))
    if link in readable:
        packet = link.recv(65536)
        if not packet:
            break
        os.write(tun, packet)
