"""A server for tests, in a process that ends when its standard input does.

``python run_server.py moto`` or ``python run_server.py PROGRAM ARGUMENTS...`` prints
the URL of the server. The program is stopped with this process, however the process
that started it ends. It runs in a folder of its own.
"""

import logging
import re
import subprocess
import sys
import tempfile
import threading


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


def serve_program(*command):
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            announce(read_url(process.stdout))
            # Else the program stops when the pipe is full.
            threading.Thread(target=drain, args=[process.stdout], daemon=True).start()
            wait_for_end()
        finally:
            process.kill()
            process.wait()


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


def announce(url):
    print(url, flush=True)


def wait_for_end():
    sys.stdin.buffer.read()


if __name__ == "__main__":
    logging.disable()
    if sys.argv[1] == "moto":
        serve_moto()
    else:
        serve_program(*sys.argv[1:])
