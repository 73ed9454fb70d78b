"""The stack test, from an empty cloud to a stack that is taken apart.

usage: main.py RELEASE_DIR MAYFLY
"""

import shutil
import sys
import tempfile
from pathlib import Path

import story
from checks import Checks
from cloud import Cloud
from project import Project
from stack import Stack


class World:
    """Everything that the parts of the test share; each part adds what it starts."""

    def __init__(self, release, mayfly, room):
        self.release, self.mayfly, self.room = release, mayfly, room
        self.checks, self.sandbox, self.cloud = Checks(), None, None

    def end(self):
        for server in (self.sandbox, self.cloud):
            if server:
                server.end()


def main(release, mayfly):
    room = Path(tempfile.mkdtemp(prefix="mayfly-stack-"))
    world = World(release.resolve(), mayfly.resolve(), room)
    try:
        world.cloud = Cloud(room)
        world.stack = Stack(world.cloud, room)
        world.project = Project(room)
        for part in (story.deploys, story.is_not_set_up_yet, story.runs_a_pipeline, story.upgrades, story.changes_the_fleet):
            part(world)
        code = world.checks.summary()
    except SystemExit as ended:
        code = ended.code
    finally:
        world.end()
    if code:
        print(f"the logs are in {room}")
    else:
        shutil.rmtree(room, ignore_errors=True)
    return code


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
