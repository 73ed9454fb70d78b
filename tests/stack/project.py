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

# Runs until the branch `go` is there.
long:
  stage: build
  image: alpine
  rules: [{if: $ONLY == "long"}]
  script:
    - echo "the long job runs"
    - until git ls-remote --exit-code "$CI_REPOSITORY_URL" refs/heads/go; do sleep 0.2; done
    - echo "the long job ends"

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

    def let_go(self):
        """Ends the long job."""
        self.git("branch", "go")

    def git(self, *arguments):
        person = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *person, *arguments], cwd=self.directory, check=True)
