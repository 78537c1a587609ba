"""As if DNS led every name of AWS to a port of this machine: on the PYTHONPATH of an unmodified SDK."""

import os
import socket

resolve = socket.getaddrinfo
PORT = int(os.environ["LED_TO_PORT"])


def lead(host, *arguments, **options):
    if str(host).endswith((".amazonaws.com", ".api.aws")):
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", PORT))]
    return resolve(host, *arguments, **options)


socket.getaddrinfo = lead
