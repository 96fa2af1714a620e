"""A controller of deploys with a journal in a file: what the daemon does for them, and nothing else.

Run as a program it works until nothing is left to do, so that a test can kill it at any moment and start it again.
"""

import base64
import pickle
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ci.deploy.engine import Deployer
from ci.deploy.model import DeployFact, Environment
from ci.deploy.plan import DeployState, apply, fold
from ci.git import Git, PlainGit
from ci.model import Sha

PATIENCE_S = 60.0


@dataclass(frozen=True)
class World:
    """What a controller is told: the repository, where to work, what is configured and promoted."""

    git_dir: Path
    folder: Path
    environments: tuple[Environment, ...]
    trunk: tuple[Sha, ...]  # oldest first
    promoted: Sha | None

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def facts(self) -> list[DeployFact]:
        lines = self.journal.read_bytes().splitlines() if self.journal.exists() else []
        return [pickle.loads(base64.b64decode(line)) for line in lines]


class Controller:
    """One life of a controller. ``close`` leaves its steps running."""

    def __init__(self, world: World, git: Git | None = None) -> None:
        self.world = world
        world.folder.mkdir(parents=True, exist_ok=True)
        self.state = fold(world.facts())
        self._changed = threading.Event()
        self.deployer = Deployer(git or PlainGit(world.git_dir), world.folder, self.record, self._changed.set)
        self.deployer.resume(self.state)

    def record(self, fact: DeployFact) -> None:
        with self.world.journal.open("ab") as journal:
            journal.write(base64.b64encode(pickle.dumps(fact)) + b"\n")
        self.state = apply(self.state, fact)

    def tick(self) -> float | None:
        trunk = self.world.trunk
        order = {commit: place for place, commit in enumerate(trunk)}.get
        return self.deployer.tick(self.world.environments, self.state, self.world.promoted, order, time.time())

    def run_until(self, is_enough: Callable[[DeployState], bool]) -> DeployState:
        """Tick at every change until the state is enough."""
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            self._changed.clear()
            look_again_at = self.tick()
            if is_enough(self.state):
                return self.state
            assert time.monotonic() < give_up_at, f"still waiting: {self.state}, troubles: {self.deployer.troubles}"
            wait_s = PATIENCE_S if look_again_at is None else max(look_again_at - time.time(), 0.0)
            self._changed.wait(min(wait_s, PATIENCE_S))

    def run_until_over(self) -> DeployState:
        """Tick until no deploy runs and none could start."""
        return self.run_until(lambda state: not state.running and self.deployer.is_idle)

    def close(self) -> None:
        self.deployer.close()


def main(arguments: Sequence[str]) -> int:
    """arguments: a file with a pickled World."""
    controller = Controller(pickle.loads(Path(arguments[0]).read_bytes()))
    controller.run_until_over()
    controller.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
