"""A real RTSP server for tests, run by the system's own Python because that one has GStreamer's bindings.

Prints `ready PORT` once it listens, then serves `rtsp://127.0.0.1:PORT/live` until it is killed.
"""

from __future__ import annotations

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ROLE = "viewer"


def pipeline(arguments: argparse.Namespace) -> str:
    """GStreamer's description of what is served: a moving ball, or the H.264 track of an MP4 file."""
    payload = "rtph264pay name=pay0 pt=96 config-interval=1"
    if arguments.file:
        return f"( filesrc location={arguments.file} ! qtdemux ! h264parse ! {payload} )"
    size = f"width={arguments.width},height={arguments.height},framerate={arguments.fps}/1"
    encoder = f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={arguments.fps}"
    return f"( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,{size} ! {encoder} ! {payload} )"


def require_login(server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, user: str, password: str,
                  digest: bool) -> None:
    """Let only `user` with `password` see what `factory` serves."""
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
    server.get_mount_points().add_factory("/live", factory)
    if server.attach(None) == 0:
        raise SystemExit(f"port {arguments.port} cannot be bound")
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
