"""The stack test, from an empty cloud to a stack that is taken apart.

usage: main.py RELEASE_DIR MAYFLY
"""

import shutil
import sys
import tempfile
from pathlib import Path

import permissions
import story
import template_checks
from checks import Checks
from cloud import Cloud
from project import Project
from stack import FUNCTIONS, Stack


PARTS = (template_checks.are_kept, story.deploys, story.is_not_set_up_yet, story.runs_a_pipeline, story.upgrades,
         story.changes_the_fleet, permissions.are_asked_and_needed, story.ends)


class World:
    """Everything that the parts of the test share; each part adds what it starts."""

    def __init__(self, release, mayfly, room):
        self.release, self.mayfly, self.room = release, mayfly, room
        self.checks, self.sandbox, self.cloud = Checks(), None, None
        self.parameters = permissions.PARAMETERS

    def end(self):
        for server in (self.sandbox, self.cloud):
            if server:
                server.end()


def keep_logs(world):
    """ministack forgets what the functions have logged."""
    for function in FUNCTIONS:
        try:
            (world.room / f"{function}.log").write_text("\n".join(world.stack.log(function)))
        except Exception as error:  # noqa: BLE001: the failed check is what counts
            print(f"no log of {function}: {error}")


def main(release, mayfly):
    room = Path(tempfile.mkdtemp(prefix="mayfly-stack-"))
    world = World(release.resolve(), mayfly.resolve(), room)
    try:
        world.cloud = Cloud(room)
        world.stack = Stack(world.cloud, room)
        world.project = Project(room)
        for part in PARTS:
            part(world)
        code = world.checks.summary()
    except SystemExit as ended:
        code = ended.code
    finally:
        if world.checks.failed:
            keep_logs(world)
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
