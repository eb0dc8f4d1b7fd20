"""Which of a stream's states is the one to go on from: a new one, where that one has a flaw.

A state is never mended. Another one is built from the topics, under another name, and is chosen
when it is whole: so a task that still works on the old one, given up by Spark or by a driver that
was killed, spoils nothing, and a rebuild that is cut short is begun anew.
"""

from pathlib import Path
from uuid import uuid4

import orjson

from fraudstream.inference.durable import write_whole
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.shared import RedisServer
from fraudstream.inference.shared import SharedState
from fraudstream.inference.store import State

EMBEDDED = "embedded"
#: What a state holds, and how. Raised with any change: an earlier one is built again.
_FORM = 3


class Generations:
    """The states of one stream, one after the other.

    Parameters
    ----------
    checkpoint
        Folder of the stream: it says which state is the current one, and holds embedded ones.
    stream
        Its name.
    feature_set
        Identity of the feature set, to which a state belongs.
    server
        The Redis that holds the states; ``None`` where they are embedded.
    """

    def __init__(
        self, checkpoint: Path, stream: str, feature_set: str, server: RedisServer | None
    ) -> None:
        self._checkpoint = checkpoint
        self._stream = stream
        self._feature_set = feature_set
        self._server = server

    def require_fit(self) -> None:
        """See `RedisServer.require_fit`; a folder always is."""
        if self._server is not None:
            self._server.require_fit()

    def current(self) -> State | str:
        """Return the current state, or why there is none."""
        try:
            chosen = orjson.loads(self._choice.read_bytes())
            name, feature_set, place = (chosen[n] for n in ("name", "feature_set", "place"))
            form = chosen.get("form", 1)
        except FileNotFoundError:
            return "there is none"
        except (KeyError, TypeError, ValueError):
            return f"{self._choice} is damaged"
        if form != _FORM:
            return f"it is of form {form}, and this version keeps form {_FORM}"
        if feature_set != self._feature_set:
            return f"it is of the feature set {feature_set}"
        if place != self._place:
            return f"it is in another place ({place})"
        return self._state(name)

    def new(self) -> State:
        """Return another state, which is not there before it is created."""
        return self._state(uuid4().hex[:8])

    def choose(self, state: State) -> None:
        """Make a state the current one, and remove all others in the same place."""
        chosen = {
            "name": state.name,
            "form": _FORM,
            "feature_set": self._feature_set,
            "place": self._place,
        }
        write_whole(self._choice, chosen)
        state.remove_others()

    @property
    def _choice(self) -> Path:
        return self._checkpoint / "state.json"

    @property
    def _place(self) -> str:
        return EMBEDDED if self._server is None else self._server.url

    def _state(self, name: str) -> State:
        if self._server is None:
            return EmbeddedState(self._checkpoint / "state" / name)
        return SharedState(self._server, self._stream, self._feature_set, name)
