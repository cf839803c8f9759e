"""Errors: a class for each kind of failure, which says who must act."""


class Error(Exception):
    """What Dure could not do. The text names the rank, and the peer or the argument that it is about."""


class DeviceError(Error):
    """A copy or a reduction on a device failed."""


class HostError(Error):
    """This host: the system refused something."""


class InternalError(Error):
    """Dure itself: please report it."""


class InvalidArgumentError(Error, ValueError):
    """The caller: one argument or setting cannot be. The text says what is allowed."""


class InvalidUsageError(Error):
    """The caller: not here and now; or the ranks' calls differ; or this build cannot do it."""


class RemoteError(Error):
    """A peer died, is unreachable, or ended the communicator by :meth:`Communicator.abort`."""


class TimeoutError(Error, TimeoutError):  # noqa: A001, the name that it is caught by
    """The deadline passed. The text says which rank did not do what."""


BY_CODE: dict[int, type[Error]] = {
    1: DeviceError,
    2: HostError,
    3: InternalError,
    4: InvalidArgumentError,
    5: InvalidUsageError,
    6: RemoteError,
    8: TimeoutError,
}
