"""A server for tests, in a process that ends when its standard input does.

``python serve.py moto|gcs|rclone|azurite [COMMAND]`` listens on a free port of
127.0.0.1 and prints the URL. However the process that started it ends, it ends too, and
takes the program that it has started with it.
"""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from http import HTTPStatus
from http.server import ThreadingHTTPServer


def serve_moto():
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    lock = threading.Lock()
    put_object = S3Response.put_object

    def one_at_a_time(self):
        with lock:  # it looks whether the object is there, and then puts it
            return put_object(self)

    S3Response.put_object = one_at_a_time
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    announce("http://{}:{}".format(*server.get_host_and_port()))
    wait_for_end()
    server.stop()


def serve_gcs():
    """The emulator, many connections at once, and creating only what is absent."""
    import gcp_storage_emulator.server as emulator
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.handlers import objects

    lock = threading.Lock()
    listening = []
    handle = emulator.Router.handle
    read_data = emulator._read_data

    def one_at_a_time(self, method):
        with lock:  # it changes its tables while it writes them down
            return handle(self, method)

    def conditional(handler, name_of):
        def handle(request, response, storage, *args, **kwargs):
            if request.query.get("ifGenerationMatch") == ["0"]:
                bucket = request.params["bucket_name"]
                try:
                    storage.get_file_obj(bucket, name_of(request))
                except NotFound:
                    pass
                else:
                    response.status = HTTPStatus.PRECONDITION_FAILED
                    error = {"code": 412, "message": "conditionNotMet", "errors": []}
                    return response.json({"error": error})
            return handler(request, response, storage, *args, **kwargs)

        return handle

    def name_in_query(request):
        return request.query["name"][0]

    def name_in_body(request):
        given = request.query.get("name")
        return given[0] if given else request.data["meta"]["name"]

    def whole_body(request_handler, query):
        """Parse an upload; by the rules of mail, content loses a last byte ``\\r``."""
        content_type = request_handler.headers.get("Content-Type") or ""
        if not content_type.startswith("multipart/related"):
            return read_data(request_handler, query)
        raw = emulator._read_raw_data(request_handler)
        boundary = re.search(r'boundary="?([^";]+)', content_type)[1].encode()
        _, meta, media = raw.removesuffix(b"\n--" + boundary + b"--").split(
            b"--" + boundary + b"\n", 2
        )
        kind, content = media.split(b"\n\n", 1)
        return {
            "meta": json.loads(meta.split(b"\n\n", 1)[1]),
            "content": content,
            "content-type": kind.decode().removeprefix("Content-Type: "),
        }

    class Threaded(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            listening.append(self)

    emulator.Router.handle = one_at_a_time
    emulator._read_data = whole_body
    # To nowhere, all of its tables at each change.
    emulator.Storage._write_config_to_file = lambda self: None
    objects._multipart_upload = conditional(objects._multipart_upload, name_in_body)
    objects._media_upload = conditional(objects._media_upload, name_in_query)
    emulator.server.HTTPServer = Threaded
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    announce(f"http://127.0.0.1:{listening[0].server_address[1]}")
    wait_for_end()
    os._exit(0)  # its stop() waits for connections that clients keep open


def serve_rclone():
    """Buckets are folders of a temporary folder; nothing is created conditionally."""
    command = ["rclone", "serve", "s3", "--addr", "127.0.0.1:0"]
    command += ["--auth-key", "rclone-key,rclone-secret", "--config", os.devnull]
    with tempfile.TemporaryDirectory() as folder:
        serve_program([*command, folder], r"http://127\.0\.0\.1:\d+")


def serve_azurite(program):
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", "0"]
    command += ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    with tempfile.TemporaryDirectory() as folder:
        serve_program(command, r"http://127\.0\.0\.1:\d+", folder)


def serve_program(command, url, folder=None):
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(url, line):
                announce(found[0])
                break
        else:
            sys.exit("".join(said))
        drain = threading.Thread(target=lambda: [None for _ in process.stdout])
        drain.daemon = True
        drain.start()
        wait_for_end()
    finally:
        process.kill()
        process.wait()


def announce(url):
    print(url, flush=True)


def wait_for_end():
    sys.stdin.buffer.read()


if __name__ == "__main__":
    logging.disable()
    which, *arguments = sys.argv[1:]
    {
        "moto": serve_moto,
        "gcs": serve_gcs,
        "rclone": serve_rclone,
        "azurite": serve_azurite,
    }[which](*arguments)
