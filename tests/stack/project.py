"""The project whose pipelines run: a git repository in the test's directory."""

import subprocess

PIPELINE = """\
stages: [build, test]

build:
  stage: build
  image: alpine
  rules: [{if: $ONLY == null}]
  script:
    - echo "cached before - $(cat cached/number 2>/dev/null || echo nothing)"
    - mkdir -p cached && echo 42 > cached/number
    - echo hello > greeting
  cache: {key: numbers, paths: [cached]}
  artifacts: {paths: [greeting]}

test:
  stage: test
  image: alpine
  rules: [{if: $ONLY == null}]
  script:
    - test "$(cat greeting)" = hello
    - test "$(cat cached/number)" = 42
    - echo "greeting of the fleet - ${FLEET_GREETING:-none}"
  cache: {key: numbers, paths: [cached], policy: pull}

# Tasks are processes of this machine: two files say that the job runs, and that it may end.
long:
  stage: build
  image: alpine
  rules: [{if: $ONLY == "long"}]
  script:
    - touch "$GATE/runs"
    - until [ -e "$GATE/go" ]; do sleep 0.1; done

greet:
  stage: build
  image: alpine
  rules: [{if: $ONLY == "greet"}]
  script:
    - echo "greeting of the fleet - ${FLEET_GREETING:-none}"
"""


class Project:
    def __init__(self, room):
        self.directory = room / "project"
        self.directory.mkdir()
        (self.directory / ".gitlab-ci.yml").write_text(PIPELINE)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "The pipeline")

    def git(self, *arguments):
        person = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *person, *arguments], cwd=self.directory, check=True)
