"""A server for tests, in a process that ends when its standard input does.

``python run_server.py moto`` (or ``ftp``, ``webdav``) or ``python run_server.py PROGRAM
ARGUMENTS...`` prints the URL of the server. The program is stopped with this process,
however the process that started it ends. It runs in a folder of its own. Arguments may
hold ``{port}``, a free port that the program is then expected to listen at, or
``{port2}`` and so on for other free ports.
"""

import contextlib
import glob
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

START_SECONDS = 60


def serve_moto():
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    # It checks a condition first, and writes or deletes afterwards.
    lock = threading.Lock()
    for name in ("put_object", "delete_object"):
        setattr(S3Response, name, one_at_a_time(lock, getattr(S3Response, name)))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    announce("http://{}:{}".format(*server.get_host_and_port()))
    wait_for_end()
    server.stop()


def one_at_a_time(lock, method):
    def locked(*args, **kwargs):
        with lock:
            return method(*args, **kwargs)

    return locked


def serve_ftp():
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import ThreadedFTPServer

    with tempfile.TemporaryDirectory() as folder:
        authorizer = DummyAuthorizer()
        authorizer.add_user("user", "password", folder, perm="elradfmwMT")
        handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
        server = ThreadedFTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        announce("ftp://{}:{}".format(*server.address))
        wait_for_end()
        server.close_all()


def serve_webdav():
    from cheroot.wsgi import Server
    from wsgidav.wsgidav_app import WsgiDAVApp

    with tempfile.TemporaryDirectory() as folder:
        config = {
            "provider_mapping": {"/": folder},
            "simple_dc": {"user_mapping": {"*": True}},
            "logging": {"enable": False},
            "verbose": 0,
        }
        server = Server(("127.0.0.1", 0), WsgiDAVApp(config))
        server.prepare()
        threading.Thread(target=server.serve, daemon=True).start()
        announce("http://{}:{}".format(*server.bind_addr))
        wait_for_end()
        server.stop()


def serve_program(*command):
    with tempfile.TemporaryDirectory() as folder:
        command, ports = with_ports(command)
        port = ports.get("port")
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            if port:
                # Else the program stops when the pipe is full.
                start(drain, process.stdout)
                wait_for_port(port, process)
                announce(f"http://127.0.0.1:{port}")
            else:
                announce(read_url(process.stdout))
                start(drain, process.stdout)
            wait_for_end()
        finally:
            process.terminate()  # some have processes of their own to end
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for number in ports.values():
                for left in glob.glob(f"/tmp/seaweedfs-*-{number}.sock"):
                    os.unlink(left)


def with_ports(command):
    """Return the command with free ports in it, and these ports by name."""
    names = sorted(set(re.findall(r"\{(port\d?)\}", " ".join(command))))
    with contextlib.ExitStack() as stack:
        ports = dict(zip(names, free_ports(stack), strict=False))
    for name, port in ports.items():
        command = [argument.replace(f"{{{name}}}", str(port)) for argument in command]
    return command, ports


def free_ports(stack):
    # Not those that the system gives to outgoing connections, which would take one
    # before the program does.
    first = 10_000 + os.getpid() * 20 % 20_000
    for port in (*range(first, 32_000), *range(10_000, first)):
        with contextlib.suppress(OSError):
            stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            yield port


def wait_for_port(port, process):
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    sys.exit(f"{process.args[0]} does not listen")


def read_url(lines):
    output = []
    for line in lines:
        output.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    return sys.exit("".join(output))


def drain(lines):
    for _ in lines:
        pass


def start(target, *args):
    threading.Thread(target=target, args=args, daemon=True).start()


def announce(url):
    print(url, flush=True)


def wait_for_end():
    sys.stdin.buffer.read()


SERVERS = {"moto": serve_moto, "ftp": serve_ftp, "webdav": serve_webdav}

if __name__ == "__main__":
    logging.disable()
    if sys.argv[1] in SERVERS:
        SERVERS[sys.argv[1]]()
    else:
        serve_program(*sys.argv[1:])
