# SPDX-License-Identifier: Apache-2.0
"""A private system bus and a double of systemd's logind on it: inhibitor locks and shutdowns."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

PATH, MANAGER = "/org/freedesktop/login1", "org.freedesktop.login1.Manager"

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""


@contextlib.contextmanager
def bus(where: Path) -> Iterator[str]:
    """A dbus-daemon; its address."""
    config, path = where / "bus.conf", where / "bus"
    config.write_text(CONFIG.format(socket=path))
    daemon = subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"],
        stdout=subprocess.PIPE, text=True)
    try:
        assert daemon.stdout.readline().startswith("unix:path=")
        yield f"unix:path={path}"
    finally:
        daemon.terminate()
        daemon.wait(10)


class Logind:
    """One life of it. `locks`: (what, who, mode) of those that are held."""

    def __init__(self, address: str, delay_s: float = 30, preparing: bool = False) -> None:
        self.delay_us = int(delay_s * 1e6)
        self.preparing = preparing
        self.refuse = False
        self.held: list[tuple[str, str, str, int]] = []
        self.connection = open_dbus_connection(bus=address, enable_fds=True)
        self.connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.login1"))
        self.stopping = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.stopping = True
        self.thread.join(10)
        self.connection.close()
        for *_, fd in self.held:
            os.close(fd)
        self.held = []

    def __enter__(self) -> Logind:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def locks(self) -> list[tuple[str, str, str]]:
        """A lock is given up by closing the other end."""
        for lock in list(self.held):
            os.set_blocking(lock[3], False)
            with contextlib.suppress(BlockingIOError):
                if os.read(lock[3], 1) == b"":
                    self.held.remove(lock)
                    os.close(lock[3])
        return [lock[:3] for lock in self.held]

    def shut_down(self, begins: bool = True) -> None:
        self.preparing = begins
        emitter = DBusAddress(PATH, interface=MANAGER)
        self.connection.send(new_signal(emitter, "PrepareForShutdown", "b", (begins,)))

    def serve(self) -> None:
        while not self.stopping:
            try:
                message = self.connection.receive(timeout=0.05)
            except TimeoutError:
                continue
            except (OSError, ConnectionError):
                return
            if message.header.message_type == MessageType.method_call:
                self.connection.send(self.answer(message))

    def answer(self, message):
        member = message.header.fields[HeaderFields.member]
        if member == "Get":
            known = {"InhibitDelayMaxUSec": ("t", self.delay_us),
                     "PreparingForShutdown": ("b", self.preparing)}
            return new_method_return(message, "v", (known[message.body[1]],))
        if member == "Inhibit" and not self.refuse:
            what, who, _why, mode = message.body
            ours, theirs = os.pipe()
            self.held.append((what, who, mode, ours))
            reply = new_method_return(message, "h", (os.fdopen(theirs, "wb"),))
            return reply
        return new_error(message, "org.freedesktop.DBus.Error.AccessDenied", "s", ("not you",))
