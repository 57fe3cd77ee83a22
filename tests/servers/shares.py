"""Servers of files: SFTP, SMB, FTP and WebDAV.

They run as the user who runs the tests, with keys, passwords and folders of their own.
"""

import contextlib
import getpass
import importlib
import os
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from fsspec.registry import get_filesystem_class, register_implementation

from tests.servers.bucket import configured
from tests.servers.process import find_program, running

PASSWORD = "password"


@dataclass(frozen=True)
class Share:
    """A folder on a running server."""

    protocol: str
    folder: str  # a URL
    options: dict  # of the filesystem
    implementation: str  # what fsspec is to use for the protocol

    @contextlib.contextmanager
    def configured(self):
        """Make the protocol lead to this server."""
        with configured(self.protocol, self.options):
            before = get_filesystem_class(self.protocol)
            module, _, name = self.implementation.rpartition(".")
            cls = getattr(importlib.import_module(module), name)
            register_implementation(self.protocol, cls, clobber=True)
            try:
                yield self
            finally:
                register_implementation(self.protocol, before, clobber=True)

    def new_root(self):
        """Return the URL of an unused root."""
        return f"{self.folder}/{uuid.uuid4().hex}"


@contextlib.contextmanager
def openssh():
    """Run sshd; yield shares for paramiko, which fsspec uses, and for sshfs."""
    pytest.importorskip("paramiko")
    program = find_program("sshd", "apt install openssh-server", "/usr/sbin")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd needs it as root
    with _folder() as folder:
        for key in ("host", "user"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
        shutil.copy(folder / "user.pub", folder / "authorized")
        (folder / "files").mkdir()
        settings = {
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host",
            "PidFile": "none",
            "AuthorizedKeysFile": folder / "authorized",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "Subsystem": "sftp internal-sftp",
        }
        lines = [f"{key} {value}\n" for key, value in settings.items()]
        (folder / "config").write_text("".join(lines))
        command = [program, "-D", "-e", "-f", str(folder / "config"), "-p", "{port}"]
        with running(*command) as url:
            port = url.rpartition(":")[2]
            options = {"username": getpass.getuser(), "port": int(port)}
            key = str(folder / "user")
            place = f"127.0.0.1{folder / 'files'}"
            yield {
                "sftp": Share(
                    "sftp",
                    f"sftp://{place}",
                    options | {"key_filename": key, "look_for_keys": False},
                    "fsspec.implementations.sftp.SFTPFileSystem",
                ),
                "sshfs": Share(
                    "sftp",
                    f"sftp://{place}",
                    options | {"client_keys": [key]},
                    "sshfs.SSHFileSystem",
                ),
            }


@contextlib.contextmanager
def samba():
    """Run smbd."""
    pytest.importorskip("smbprotocol")
    program = find_program("smbd", "apt install samba", "/usr/sbin")
    user = getpass.getuser()
    with _folder() as folder:
        (folder / "files").mkdir()
        settings = {
            "server role": "standalone server",
            "interfaces": "127.0.0.1",
            "bind interfaces only": "yes",
            "disable netbios": "yes",
            "passdb backend": f"tdbsam:{folder}/passdb.tdb",
            "load printers": "no",
            "disable spoolss": "yes",
            "log file": f"{folder}/log",
        }
        for kind in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
            key = "ncalrpc dir" if kind == "ncalrpc" else f"{kind} directory"
            (folder / kind).mkdir(mode=0o755)
            settings[key.replace("private directory", "private dir")] = folder / kind
        share = {"path": folder / "files", "read only": "no"}
        config = folder / "smb.conf"
        config.write_text(_section("global", settings) + _section("share", share))
        _run(
            *("pdbedit", "-s", config, "-a", "-u", user, "-t"),
            input=f"{PASSWORD}\n{PASSWORD}\n",
        )
        command = [program, "-F", "-s", str(config)]
        with running(*command, "-p", "{port}") as url:
            port = int(url.rpartition(":")[2])
            options = {"username": user, "password": PASSWORD, "port": port}
            yield Share(
                "smb",
                "smb://127.0.0.1/share",
                options,
                "fsspec.implementations.smb.SMBFileSystem",
            )


@contextlib.contextmanager
def pyftpdlib():
    """Run an FTP server."""
    pytest.importorskip("pyftpdlib")
    with running("ftp") as url:
        options = {"username": "user", "password": PASSWORD}
        options["port"] = int(url.rpartition(":")[2])
        yield Share(
            "ftp",
            "ftp://127.0.0.1/files",
            options,
            "fsspec.implementations.ftp.FTPFileSystem",
        )


@contextlib.contextmanager
def wsgidav():
    """Run a WebDAV server."""
    pytest.importorskip("wsgidav")
    pytest.importorskip("webdav4")
    with running("webdav") as url:
        yield Share(
            "webdav",
            "webdav://files",
            {"base_url": url},
            "webdav4.fsspec.WebdavFileSystem",
        )


@contextlib.contextmanager
def _folder():
    # Below /tmp: the path of a socket is at most 108 characters.
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _run(*command, **options):
    subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, **options
    )


def _section(name, settings):
    return "".join([f"[{name}]\n", *(f"{k} = {v}\n" for k, v in settings.items())])
