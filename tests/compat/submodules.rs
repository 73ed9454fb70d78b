//! Submodules and large files, in the helper and in the scripts.

use std::fs;
use std::path::Path;

use crate::tiny_http::{Answer, serve};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::sources::{Projects, git};
use crate::support::{commit, repository};

/// Names `of`'s branch `main` as the submodule `path` at `url`.
fn add_submodule(repository: &Path, path: &str, url: &str, of: &Path) {
    for (key, value) in [("path", path), ("url", url), ("branch", "work")] {
        git(repository, &["config", "-f", ".gitmodules", &format!("submodule.{path}.{key}"), value]);
    }
    let head = git(of, &["rev-parse", "main"]);
    git(repository, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},{path}")]);
    fs::create_dir_all(repository.join(path)).expect("a directory");
    git(repository, &["add", ".gitmodules"]);
    git(repository, &["commit", "--quiet", "--message", "Add a submodule"]);
}

/// A repository whose branch `work` is ahead of `main`.
fn library() -> TempDir {
    let library = repository(&[("in", "main")]);
    for text in ["second", "third"] {
        fs::write(library.path().join("in"), text).expect("a file");
        commit(library.path());
    }
    git(library.path(), &["switch", "--quiet", "--create", "work"]);
    fs::write(library.path().join("in"), "work").expect("a file");
    commit(library.path());
    git(library.path(), &["switch", "--quiet", "main"]);
    library
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_come_as_the_job_wants_them() {
    let (deep, lib) = (library(), library());
    add_submodule(lib.path(), "deep", "../deep.git", deep.path());
    let app = repository(&[(
        ".gitlab-ci.yml",
        r#"
.job:
  variables: {GIT_SUBMODULE_STRATEGY: normal, GIT_SUBMODULE_PATHS: lib}
  script: ["cat lib/in lib/deep/in 2>/dev/null || echo 1 not all"]
none: {script: ["ls lib | grep . || echo 1 empty"]}
normal:
  extends: .job
  variables: {GIT_CLEAN_FLAGS: none}
  script: ["cat lib/in && ls lib/deep | grep . || echo 1 empty", "git -C lib ls-remote --exit-code origin work"]
recursive:
  extends: .job
  variables: {GIT_SUBMODULE_STRATEGY: recursive}
  script: ["cat lib/in lib/deep/in && echo", "git -C lib/deep fetch origin work && echo 1 fetched"]
depth:
  extends: .job
  variables: {GIT_SUBMODULE_DEPTH: "1"}
  script: ["echo 1 $(git -C lib rev-list --count HEAD)"]
exclude:
  extends: .job
  variables: {GIT_SUBMODULE_PATHS: ":(exclude)scp :(exclude)port"}
flags:
  extends: .job
  variables: {GIT_SUBMODULE_UPDATE_FLAGS: --remote --jobs 2}
  script: [cat lib/in]
scp:
  extends: .job
  variables: {GIT_SUBMODULE_PATHS: scp, GIT_SUBMODULE_FORCE_HTTPS: "true"}
  script: [cat scp/in, "git -C scp ls-remote --exit-code origin work"]
port:
  extends: .job
  variables: {GIT_SUBMODULE_PATHS: port, GIT_SUBMODULE_FORCE_HTTPS: "true", CI_SERVER_SHELL_SSH_HOST: ssh.test, CI_SERVER_SHELL_SSH_PORT: "2222"}
  script: [cat port/in]
bare: {extends: .job, variables: {GIT_SUBMODULE_PATHS: ":(exclude) lib"}}
word: {extends: .job, variables: {GIT_SUBMODULE_STRATEGY: deep}}
"#,
    )]);
    add_submodule(app.path(), "lib", "../lib.git", lib.path());
    add_submodule(app.path(), "scp", "git@127.0.0.1:group/deep.git", deep.path());
    add_submodule(app.path(), "port", "ssh://git@ssh.test:2222/group/deep.git", deep.path());
    let jobs = Projects::start(vec![("app", app), ("lib", lib), ("deep", deep)]).await.run().await;

    jobs["none"].passed().says(&["Skipping Git submodules setup", "1 empty"]);
    jobs["normal"].passed().says(&[
        "Updating/initializing submodules with git depth set to 20...",
        "Updated submodules",
        "Synchronizing submodule url for 'lib'",
        "Configuring submodules to use parent git credentials...",
        "third",
        "1 empty",
        "refs/heads/work",
    ]);
    let headline = "Updating/initializing submodules recursively with git depth set to 20...";
    jobs["recursive"].passed().says(&[headline, "01O thirdthird", "1 fetched"]);
    jobs["depth"].passed().says(&["submodules with git depth set to 1...", "01O 1 1"]);
    jobs["exclude"].passed().says(&["01O third1 not all"]);
    jobs["flags"].passed().says(&["01O work"]);
    jobs["scp"].passed().says(&["01O third", "refs/heads/work"]);
    jobs["port"].passed().says(&["01O third"]);
    let pathspec = "GIT_SUBMODULE_PATHS: invalid submodule pathspec `:(exclude) lib`";
    jobs["bare"].failed("runner_configuration_error").says(&[pathspec]);
    jobs["word"].failed("runner_configuration_error").says(&["`GIT_SUBMODULE_STRATEGY` is `deep`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_come_unless_the_job_leaves_them() {
    let content = "large file\n".repeat(1000);
    let oid = hex::encode(Sha256::digest(&content));
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n", content.len());
    let server = serve(move |request| {
        let base = format!("http://{}", request.header("host").expect("a host"));
        let body = match request.path.as_str() {
            "/objects/batch" => {
                let asked: Value = serde_json::from_slice(&request.body).expect("JSON");
                let mut object = asked["objects"][0].clone();
                object["actions"] = json!({"download": {"href": format!("{base}/object")}});
                json!({"transfer": "basic", "objects": [object]}).to_string()
            }
            "/object" => content.clone(),
            _ => return Answer::status(404),
        };
        Answer::Response { status: 200, headers: vec![("Content-Type", "application/vnd.git-lfs+json".into())], body }
    });
    let server = server.await;
    let files = |more: (&'static str, &'static str)| {
        let lfsconfig = format!("[lfs]\n\turl = http://{server}\n");
        let library = repository(&[(".lfsconfig", lfsconfig.as_str()), more]);
        // The pointer is put in as it is: this machine's git may have filters of its own.
        fs::write(library.path().join("large"), &pointer).expect("a file");
        git(library.path(), &["-c", "filter.lfs.clean=", "-c", "filter.lfs.process=", "add", "large"]);
        fs::write(library.path().join(".gitattributes"), "large filter=lfs diff=lfs merge=lfs -text\n")
            .expect("a file");
        git(library.path(), &["add", ".gitattributes"]);
        git(library.path(), &["commit", "--quiet", "--message", "Add a large file"]);
        library
    };
    let lib = files(("in", "lib"));
    let app = files((
        ".gitlab-ci.yml",
        r#"
# As in an image whose git-lfs nobody has set up.
variables: {GIT_CONFIG_NOSYSTEM: "1", GIT_SUBMODULE_STRATEGY: normal}
pulled: {script: ["head -n 1 large lib/large", wc -c < large]}
left: {variables: {GIT_LFS_SKIP_SMUDGE: "true"}, script: ["head -n 1 large lib/large"]}
"#,
    ));
    add_submodule(app.path(), "lib", "../lib.git", lib.path());
    let jobs = Projects::start(vec![("app", app), ("lib", lib)]).await.run().await;

    let large = "01O large file";
    jobs["pulled"].passed().says(&[
        "Pulling LFS files...",
        "Updated submodules",
        "Pulling LFS files...",
        large,
        large,
        "11000",
    ]);
    let pointer = "01O version https://git-lfs.github.com/spec/v1";
    jobs["left"].passed().says(&[pointer, pointer]).never_says(&["Pulling LFS files..."]);
}
