"""A FUSE server that answers what it takes to open its one file, and nothing once somebody reads it:
then it prints `silent`, and `second` when somebody has asked for a file of that name in vain.

    hung_fuse.py DIRECTORY

Speaks the protocol of /dev/fuse itself, so that the tests need no library.
"""
import ctypes
import os
import stat
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, FLUSH, RELEASE = 1, 2, 3, 14, 15, 17, 25, 18
INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS = 26, 27, 28, 29, 34
ENOSYS = 38
NOSUID, NODEV = 2, 4


def attributes(node):
    mode, size = (stat.S_IFDIR | 0o755, 0) if node == 1 else (stat.S_IFREG | 0o644, 4096)
    return struct.pack("<QQQQQQIIIIIIIIII", node, size, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(operation, node):
    """The body of a good answer; None for an operation that this server does not know."""
    if operation == INIT:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0)
    if operation == LOOKUP:
        return struct.pack("<QQQQII", 2, 0, 60, 60, 0, 0) + attributes(2)
    if operation == GETATTR:
        return struct.pack("<QII", 60, 0, 0) + attributes(node)
    if operation in (OPEN, OPENDIR):
        return struct.pack("<QII", 1, 0, 0)
    if operation == STATFS:
        return struct.pack("<QQQQQIIII24x", 1, 0, 0, 2, 0, 4096, 255, 4096, 0)
    if operation in (FLUSH, RELEASE, RELEASEDIR, ACCESS, READDIR):
        return b""
    return None


def main(directory):
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hung", os.fsencode(directory), b"fuse", NOSUID | NODEV, options.encode()) != 0:
        sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    silent = False
    while True:
        request = os.read(device, 1 << 20)
        _length, operation, unique, node = struct.unpack_from("<IIQQ", request)
        if operation == READ and not silent:
            silent = True
            print("silent", end="", flush=True)
        elif silent and operation == LOOKUP and request[40:] == b"second\0":
            print("second", end="", flush=True)
        if silent or operation == FORGET:
            continue
        body = answer(operation, node)
        error = -ENOSYS if body is None else 0
        body = body or b""
        os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


main(sys.argv[1])
