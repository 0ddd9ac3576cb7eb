"""`Upkeep`: what a P8 does beside the conversation, in the background: instances, projects, containers left behind.

Nothing here is waited for by a person, and nothing that fails here may cost them a word.
"""

from __future__ import annotations

import contextlib
import threading

from p8.errors import P8Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from p8.app import App
    from p8.core.supervisor import Supervisor

SHORTEST_S = 60.0  #: between two cleanups of projects


class Upkeep:
    """
    Looks after what an app has.

    Args:
        app: whose.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._supervisor: Supervisor | None = None
        self._again: threading.Timer | None = None
        self._closed = False

    def instances(self) -> None:
        """Look after this project's instances in the background, where there are any and no process does so for all."""
        if self._supervisor is not None or not self._own_instances():
            return
        from p8.core.supervisor import Supervisor

        self._supervisor = Supervisor(self._app.instances, self._own_instances)
        threading.Thread(target=self._supervisor.run, name="p8-supervisor", daemon=True).start()

    def _own_instances(self) -> set[str]:
        app = self._app
        places = {str(app.directory), app.project.root}
        return {one.id for one in app.instances.roster.all() if str(one.project_path) in places}

    def projects(self) -> None:
        """Note that the project is in use, and clean up what is due; again and again, for as long as the app lives."""
        app = self._app
        with contextlib.suppress(P8Error):
            app.portfolio.touch(app.project.id)
            app.cleanup.look(app.project.id)
        if app.config.project_cleanup and not self._closed:
            self._again = threading.Timer(max(app.config.project_cleanup_every_s, SHORTEST_S), self.projects)
            self._again.daemon = True
            self._again.start()

    def containers(self) -> None:
        """Remove containers that a process which died has left."""
        from p8.core import leftovers

        home = self._app.config.home
        if leftovers.is_any(home):
            with contextlib.suppress(P8Error):
                leftovers.sweep(self._app.runtime, home)

    def close(self) -> None:
        """End all of it."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        if self._supervisor is not None:
            self._supervisor.stop()
