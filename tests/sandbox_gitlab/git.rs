//! Real git against the stand-in (gitlab-protocol.md §10).

use crate::support::{ONE_JOB, World, commit, git, git_async, git_output};

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_fetches_the_pipelines_ref_as_the_claim_says() {
    let world = World::new(ONE_JOB).await;
    commit(world.repository.path(), &[("more", &"x".repeat(200_000))]);
    let pipeline = world.run();
    let claim = world.claim().await;
    let (info, folder) = (&claim.body["git_info"], tempfile::tempdir().unwrap());
    git(folder.path(), &["init", "--quiet"]);
    let mut fetch = vec!["fetch", "--quiet", "--depth", "20", info["repo_url"].as_str().unwrap()];
    fetch.extend(info["refspecs"].as_array().unwrap().iter().map(|refspec| refspec.as_str().unwrap()));

    let fetched = git_async(folder.path(), &fetch).await;

    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    git(folder.path(), &["checkout", "--quiet", info["sha"].as_str().unwrap()]);
    assert!(folder.path().join("more").exists());
    assert_eq!(git(folder.path(), &["rev-parse", &format!("refs/pipelines/{}", pipeline.id())]), pipeline.sha());
    // The user's repository was only read.
    assert!(!git(world.repository.path(), &["for-each-ref"]).contains("refs/pipelines"));
    assert!(!git(world.repository.path(), &["config", "--list", "--local"]).contains("uploadpack"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_clone_and_a_commit_by_its_hash_work_while_the_job_runs() {
    let world = World::new(ONE_JOB).await;
    let old = git(world.repository.path(), &["rev-parse", "HEAD"]);
    commit(world.repository.path(), &[("more", "more")]);
    // So many wants that git compresses its request.
    for branch in 0..60 {
        git(world.repository.path(), &["commit", "--quiet", "--allow-empty", "--message", "x"]);
        git(world.repository.path(), &["branch", &format!("b{branch}")]);
    }
    world.run();
    let claim = world.claim().await;
    let url = claim.body["git_info"]["repo_url"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();

    let cloned = git_async(folder.path(), &["clone", "--quiet", url, "app"]).await;
    assert!(cloned.status.success(), "{}", String::from_utf8_lossy(&cloned.stderr));
    assert!(folder.path().join("app/more").exists());
    git(folder.path(), &["init", "--quiet", "single"]);
    let single = git_async(&folder.path().join("single"), &["fetch", "--quiet", "--depth=1", url, &old]).await;
    assert!(single.status.success(), "{}", String::from_utf8_lossy(&single.stderr));

    world.succeed(&claim).await;
    let late = git_async(folder.path(), &["clone", "--quiet", url, "late"]).await;
    assert!(String::from_utf8_lossy(&late.stderr).contains("Authentication failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ref_goes_when_the_pipeline_is_over_and_comes_back_with_a_retry() {
    let world = World::new(ONE_JOB).await;
    let pipeline = world.run();
    let claim = world.claim().await;
    let own = format!("refs/pipelines/{}", pipeline.id());
    let listed = async |url: String| {
        let output = git_async(&std::env::temp_dir(), &["ls-remote", &url]).await;
        String::from_utf8(output.stdout).unwrap().contains(&own)
    };
    let url = |claim: &crate::support::Claim| claim.body["git_info"]["repo_url"].as_str().unwrap().to_owned();
    assert!(listed(url(&claim)).await);
    world.succeed(&claim).await;
    let other = world.run();
    let next = world.claim().await;
    assert!(other.job("job").is_some());

    // It is deleted in the background: look until it is gone.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while listed(url(&next)).await {
        assert!(std::time::Instant::now() < deadline, "the ref stays");
    }
    world.job(&claim).retry();
    let again = world.claim().await;
    assert!(listed(url(&again)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn git_without_a_good_job_token_gets_nothing() {
    let world = World::new(ONE_JOB).await;
    let other = world.gitlab.add_project("other/lib", world.repository.path());
    world.run();
    let claim = world.claim().await;
    let base = world.gitlab.url();
    let host = base.trim_start_matches("http://");
    let refs = |path: &str| world.call(reqwest::Method::GET, path).send();

    let open = refs("/group/app.git/info/refs?service=git-upload-pack").await.unwrap();
    assert_eq!(open.status(), 401);
    assert!(open.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let folder = tempfile::tempdir().unwrap();
    let named = |user: &str, path: &str| format!("http://{user}:{}@{host}/{path}.git", claim.token);
    let ls = async |url: String| git_async(folder.path(), &["ls-remote", &url]).await.status.success();
    assert!(ls(named("gitlab-ci-token", "group/app")).await);
    assert!(!ls(named("root", "group/app")).await);
    assert!(!ls(named("gitlab-ci-token", "other/lib")).await);
    assert!(!ls(named("gitlab-ci-token", "no/such")).await);
    world.gitlab.allow_job_tokens(other, world.project);
    assert!(ls(named("gitlab-ci-token", "other/lib")).await);

    let push =
        git_output(world.repository.path(), &["push", &named("gitlab-ci-token", "group/app"), "HEAD:refs/heads/x"]);
    assert!(!push.status.success());
}
