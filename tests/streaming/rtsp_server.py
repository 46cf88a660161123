"""A real RTSP server for tests, run by the system's own Python because that one has GStreamer's bindings.

Prints `ready PORT` once it listens, then serves `rtsp://127.0.0.1:PORT/live` until it is killed. Lines on its standard
input change what it shows meanwhile: `size WIDTH HEIGHT`, or `pattern NAME` (of GStreamer's videotestsrc).
"""

from __future__ import annotations

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ROLE = "viewer"


def pipeline(arguments: argparse.Namespace) -> str:
    """GStreamer's description of what is served: a moving ball, or the H.264 track of an MP4 file."""
    number = {"h264": "264", "h265": "265"}[arguments.codec]
    payload = f"rtph{number}pay name=pay0 pt=96 config-interval=-1"
    if arguments.file:
        return f"( filesrc location={arguments.file} ! qtdemux ! h264parse ! {payload} )"
    encoder = f"x{number}enc tune=zerolatency speed-preset=ultrafast key-int-max={arguments.fps}"
    caps = caps_of(arguments.width, arguments.height, arguments.fps)
    shown = f"videotestsrc name=picture is-live=true pattern={arguments.pattern}"
    return f"( {shown} ! capsfilter name=size caps={caps} ! {encoder} ! {payload} )"


def caps_of(width: int, height: int, fps: int) -> str:
    """GStreamer's description of raw pictures."""
    return f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"


class Stage:
    """The stream that is served, and the commands that change it."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._orders: dict[str, list[str]] = {}
        self._media: GstRtspServer.RTSPMedia | None = None

    def prepared(self, _factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        """Apply the last command to the pipeline, which was made for the first viewer."""
        self._media = media
        for words in self._orders.values():
            self._carry_out(words)

    def read_order(self, channel: GLib.IOChannel, _condition: GLib.IOCondition) -> bool:
        """Execute one line of standard input as a command; return False at its end."""
        words = channel.readline().split()
        if not words:
            return False
        self._orders[words[0]] = words
        if self._media is not None:
            self._carry_out(words)
        return True

    def _carry_out(self, words: list[str]) -> None:
        assert self._media is not None
        element = self._media.get_element()
        if words[0] == "size":
            caps = Gst.Caps.from_string(caps_of(int(words[1]), int(words[2]), self._fps))
            element.get_by_name("size").set_property("caps", caps)
        elif words[0] == "pattern":
            Gst.util_set_object_arg(element.get_by_name("picture"), "pattern", words[1])


def require_login(
    server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, user: str, password: str, digest: bool
) -> None:
    """Restrict the stream of `factory` to `user` with `password`."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", ROLE)
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role(ROLE, "media.factory.access", True)
    permissions.add_permission_for_role(ROLE, "media.factory.construct", True)
    factory.set_permissions(permissions)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", default="0", help="0 takes a free one")
    parser.add_argument("--file", help="an MP4 file with an H.264 track; a moving ball where it is not given")
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--height", type=int, default=120)
    parser.add_argument("--fps", type=int, default=20)
    parser.add_argument("--codec", choices=("h264", "h265"), default="h264")
    parser.add_argument("--pattern", default="ball", help="one of videotestsrc's")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--digest", action="store_true")
    arguments = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(arguments.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(pipeline(arguments))
    factory.set_shared(True)
    if arguments.user:
        require_login(server, factory, arguments.user, arguments.password, arguments.digest)
    stage = Stage(arguments.fps)
    factory.connect("media-configure", stage.prepared)
    orders = GLib.IOChannel.unix_new(sys.stdin.fileno())
    GLib.io_add_watch(orders, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN, stage.read_order)
    server.get_mount_points().add_factory("/live", factory)
    if server.attach(None) == 0:
        raise SystemExit(f"port {arguments.port} cannot be bound")
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
