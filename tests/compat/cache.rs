//! Caches: which objects, what is in them, which way they go, and what the log says of it.

use mayfly::sandbox::Settings;

use crate::run::{self, Ended};
use crate::support::{Story, agent, in_time};

async fn jobs(pipeline: &str) -> std::collections::BTreeMap<String, Ended> {
    let jobs = run::jobs(pipeline).await;
    jobs.values().for_each(|job| {
        job.passed();
    });
    jobs
}

/// A story with the pipeline, not yet run.
pub async fn story(pipeline: &str) -> Story {
    Story::start_with(Settings { agent: Some(agent()), ..Settings::default() }, pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_untracked_files_go_to_later_jobs() {
    let jobs = jobs(
        "
stages: [one, two]
variables: {DIR: more}
cache:
  - {key: paths, paths: [deps/, '${DIR}/*.txt', '${NO:-other}/**/*.o', missing]}
  - {key: untracked, untracked: true, paths: ['.gitlab-ci.yml']}
save:
  stage: one
  script:
    - mkdir -p deps/deep deps/empty more other/a/b lost
    - echo deep > deps/deep/file && ln -s deep/file deps/link && ln deps/deep/file deps/twin
    - echo run > deps/run && chmod 750 deps/run && touch -d 2001-02-03T04:05:06Z deps/run
    - echo x > more/x.txt && echo y > more/y.log && echo o > other/a/b/c.o
  after_script: [rm -r lost]
load:
  stage: two
  cache:
    - {key: paths, paths: [deps/], policy: pull}
    - {key: untracked, paths: [deps/], policy: pull}
  script:
    - cat deps/deep/file && test \"$(readlink deps/link)\" = deep/file && test -d deps/empty
    - test \"$(stat -c '%a %Y' deps/run)\" = '750 981173106'
    - test \"$(stat -c %h deps/twin)\" = 2
    - cat more/x.txt other/a/b/c.o more/y.log
",
    )
    .await;

    jobs["save"].says(&[
        "Checking cache for paths-protected...",
        "WARNING: file does not exist",
        "Failed to extract cache",
        "Checking cache for untracked-protected...",
        "Saving cache for successful job",
        "Creating cache paths-protected...",
        "deps/: found 7 matching artifact files and directories",
        "more/*.txt: found 1 matching artifact files and directories",
        "other/**/*.o: found 1 matching artifact files and directories",
        "WARNING: missing: no matching files. Ensure that the artifact path is relative to the working directory (",
        "Uploading cache.zip to http",
        "Created cache",
        "Creating cache untracked-protected...",
        ".gitlab-ci.yml: found 1 matching artifact files and directories",
        "untracked: found 7 files",
        "Created cache",
    ]);
    jobs["load"].says(&[
        "Checking cache for paths-protected...",
        "Downloading cache from http",
        "Successfully extracted cache",
        "Checking cache for untracked-protected...",
        "Successfully extracted cache",
        "Not uploading cache paths-protected due to policy",
    ]);
    jobs.values().for_each(|job| {
        job.never_says(&["X-Amz-Signature"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_and_sanitised() {
    let story = story(
        "
default: {cache: {paths: [a]}}
.save: &save {script: [touch a]}
plain: {<<: *save}
variable: {<<: *save, variables: {KEY: $CI_JOB_NAME/$CI_COMMIT_REF_SLUG}, cache: {key: $KEY, paths: [a]}}
files: {<<: *save, cache: {key: {files: [.gitlab-ci.yml, none], prefix: 'of-$CI_JOB_NAME'}, paths: [a]}}
nofile: {<<: *save, cache: {key: {files: [none]}, paths: [a]}}
climbs: {<<: *save, variables: {KEY: '../..%2fx\\y//'}, cache: {key: $KEY, paths: [a]}}
unprotected: {<<: *save, cache: {key: free, unprotect: true, paths: [a]}}
nothing: {<<: *save, cache: {key: $NOBODY, paths: [a], unprotect: true}}
dots: {<<: *save, variables: {KEY: '..'}, cache: {key: $KEY, paths: [a]}}
several:
  <<: *save
  cache: [{key: one, paths: [a]}, {key: two, paths: [a]}]
",
    )
    .await;
    let run = story.run();
    in_time(run.finished()).await;
    let jobs = run.jobs().iter().map(|job| (job.name(), Ended::of(job))).collect::<std::collections::BTreeMap<_, _>>();
    let mut keys = story.sandbox.s3.keys("cache");
    story.end().await;

    jobs.values().for_each(|job| {
        job.passed();
    });
    jobs["plain"].says(&["Creating cache default-protected...", "Created cache"]);
    jobs["variable"].says(&["Creating cache variable/main-protected...", "Created cache"]);
    jobs["nofile"].says(&["Creating cache 0-default-protected...", "Created cache"]);
    jobs["climbs"].says(&[
        "cache key \"../..%2fx\\\\y//-protected\" sanitized to \"x/y/-protected\"",
        "Creating cache x/y/-protected...",
    ]);
    jobs["unprotected"].says(&["Creating cache free-non_protected...", "Created cache"]);
    jobs["several"].says(&["Creating cache one-protected...", "Creating cache two-protected..."]);
    let prefix = keys[0].split("/project/").next().expect("a prefix").to_owned();
    assert_eq!(prefix.split('/').count(), 2, "runner and short token: {keys:?}");
    keys.iter_mut().for_each(|key| *key = key.split('/').skip(4).collect::<Vec<_>>().join("/"));
    let of_files = keys.iter().position(|key| key.starts_with("of-files-")).expect("a key of files");
    assert_eq!(keys.remove(of_files).len(), "of-files--protected".len() + 40);
    let expected = [
        "..-protected",
        "-non_protected",
        "0-default-protected",
        "default-protected",
        "free-non_protected",
        "one-protected",
        "two-protected",
        "variable/main-protected",
        "x/y/-protected",
    ];
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(keys, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_keys_are_tried_in_order() {
    let jobs = jobs(
        "
stages: [one, two]
save:
  stage: one
  cache: [{key: second, paths: [a]}, {key: last, paths: [b]}]
  script: [echo second > a, echo last > b]
keyword:
  stage: two
  cache: {key: none, fallback_keys: ['$NOTHING', first, second, third], paths: [a], policy: pull}
  script: [cat a]
variable:
  stage: two
  variables: {CACHE_FALLBACK_KEY: last-protected-not, LAST: last}
  cache: {key: none, paths: [b], policy: pull}
  script: ['! test -e b']
protected:
  stage: two
  variables: {CACHE_FALLBACK_KEY: 'last-protected. '}
  cache: {key: none, paths: [b], policy: pull}
  script: ['! test -e b']
",
    )
    .await;

    jobs["keyword"].says(&[
        "Checking cache for none-protected...",
        "Failed to extract cache",
        "Checking cache for first-protected...",
        "Failed to extract cache",
        "Checking cache for second-protected...",
        "Successfully extracted cache",
    ]);
    jobs["keyword"].never_says(&["Checking cache for third"]);
    jobs["variable"].says(&["Checking cache for none-protected...", "Checking cache for last-protected-not..."]);
    jobs["protected"].says(&["CACHE_FALLBACK_KEY \"last-protected. \" not allowed to end in \"-protected\""]);
    jobs["protected"].never_says(&["Checking cache for last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_and_when_say_which_way_and_after_which_end() {
    let jobs = run::jobs(
        "
.cache: &cache {paths: [a]}
success: {cache: {<<: *cache, key: s}, script: [touch a]}
failure: {cache: [{<<: *cache, key: f, when: on_failure}, {<<: *cache, key: s}], script: [touch a, exit 3]}
always: {cache: {<<: *cache, key: a, when: always}, script: [touch a, exit 1]}
not-failed: {cache: {<<: *cache, key: f, when: on_failure}, script: [touch a]}
pull: {cache: {<<: *cache, key: s, policy: pull}, script: [touch a]}
push: {cache: {<<: *cache, key: s, policy: push}, script: [touch a]}
asked: {variables: {P: push}, cache: {<<: *cache, key: s, policy: $P}, script: [touch a]}
unknown: {variables: {P: both}, cache: {<<: *cache, key: s, policy: $P}, script: [touch a]}
",
    )
    .await;

    jobs["success"].passed().says(&["Checking cache for s-", "Saving cache for successful job", "Created cache"]);
    jobs["failure"].failed("script_failure").says(&[
        "Checking cache for f-",
        "Saving cache for failed job",
        "Creating cache f-protected...",
        "Created cache",
    ]);
    jobs["failure"].never_says(&["Creating cache s-"]);
    assert_eq!(jobs["failure"].exit_code, Some(3));
    jobs["always"].failed("script_failure").says(&["Saving cache for failed job", "Created cache"]);
    jobs["not-failed"].passed().never_says(&["Saving cache"]);
    jobs["pull"].passed().says(&["Checking cache for s-", "Not uploading cache s-protected due to policy"]);
    for job in ["push", "asked"] {
        jobs[job].passed().says(&["Not downloading cache s-protected due to policy", "Created cache"]);
    }
    jobs["unknown"].failed("runner_configuration_error").says(&["unknown cache policy both for s-protected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_and_levels_are_as_asked() {
    let story = story(
        "
.seq: &seq {script: [seq 100000 > a]}
.fast: &fast {CACHE_COMPRESSION_LEVEL: fastest}
.slow: &slow {CACHE_COMPRESSION_LEVEL: slowest}
plain: {<<: *seq, cache: {key: plain, paths: [a]}}
tar: {<<: *seq, variables: {<<: *slow, CACHE_COMPRESSION_FORMAT: tarzstd}, cache: {key: tar, paths: [a]}}
zip-0: {<<: *seq, variables: {<<: *fast, CACHE_COMPRESSION_FORMAT: ZIP}, cache: {key: zip-0, paths: [a]}}
zip-9: {<<: *seq, variables: {<<: *slow, CACHE_COMPRESSION_FORMAT: zip}, cache: {key: zip-9, paths: [a]}}
zstd: {<<: *seq, variables: {CACHE_COMPRESSION_FORMAT: zipzstd}, cache: {key: zstd, paths: [a]}}
small: {<<: *seq, variables: {CACHE_MAX_UPLOADED_ARCHIVE_SIZE: 1000}, cache: {key: small, paths: [a]}}
large: {<<: *seq, variables: {CACHE_MAX_UPLOADED_ARCHIVE_SIZE: 1000000}, cache: {key: large, paths: [a]}}
",
    )
    .await;
    let run = story.run();
    in_time(run.finished()).await;
    let keys = story.sandbox.s3.keys("cache");
    let object = |name: &str| {
        let key = keys.iter().find(|key| key.ends_with(&format!("/{name}-protected")))?;
        story.sandbox.s3.object("cache", key)
    };
    let small = Ended::of(&run.job("small").expect("it is there"));
    assert_eq!(run.status(), "success");

    for (name, magic) in [
        ("plain", &b"\x28\xb5\x2f\xfd"[..]),
        ("tar", b"\x28\xb5\x2f\xfd"),
        ("zip-0", b"PK\x03\x04"),
        ("zip-9", b"PK\x03\x04"),
        ("zstd", b"PK\x03\x04"),
        ("large", b"\x28\xb5\x2f\xfd"),
    ] {
        assert!(object(name).expect(name).starts_with(magic), "{name}");
    }
    // The method of the first file: 0 is stored, 8 is deflate, 93 is zstd.
    let method = |name: &str| object(name).expect(name)[8];
    assert_eq!((method("zip-0"), method("zip-9"), method("zstd")), (0, 8, 93));
    let size = |name: &str| object(name).expect(name).len();
    assert!(size("zip-9") < size("zip-0") / 2);
    small.says(&["Cache archive is too big (Limit is set to 1000). Cache will not be uploaded."]);
    small.never_says(&["Created cache", "Failed to create cache"]);
    assert!(object("small").is_none());
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_cache_is_a_miss_for_a_broker_that_may_not_list_its_bucket() {
    let pipeline = "
stages: [one, two]
save: {stage: one, cache: {key: there, paths: [a]}, script: [echo content > a]}
restore:
  stage: two
  cache: {key: missing, fallback_keys: [missing-too, there], paths: [a], policy: pull}
  script: [cat a]
miss:
  stage: two
  cache: {key: missing, paths: [a], policy: pull}
  script: ['! test -e a']
";
    let settings = Settings { broker_may_list: false, ..Settings::default() };
    let jobs = run::jobs_with(settings, pipeline).await;
    let lacks = "file does not exist, or the broker's role lacks `s3:ListBucket` for the cache's bucket";
    jobs["restore"].passed().says(&[
        "Checking cache for missing-protected...",
        lacks,
        "Checking cache for missing-too-protected...",
        lacks,
        "Checking cache for there-protected...",
        "Successfully extracted cache",
        "content",
    ]);
    jobs["miss"].passed().says(&[lacks]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_does_not_come_in_time_is_given_up() {
    let story = story(
        "
job:
  variables: {CACHE_REQUEST_TIMEOUT: '0.01'}
  cache: {key: k, paths: [a], policy: pull}
  script: [echo without]
",
    )
    .await;
    // The bucket hangs longer than the job has patience.
    story.sandbox.traffic.set_gate(|seen, _| {
        Box::pin(async move {
            let is_cache = seen.server == "s3" && seen.method == "GET" && seen.path.contains("/project/");
            if is_cache { mayfly::sandbox::traffic::Verdict::Cut } else { mayfly::sandbox::traffic::Verdict::Pass }
        })
    });
    let run = story.run();
    in_time(run.finished()).await;
    let job = Ended::of(&run.jobs()[0]);
    job.passed().says(&["WARNING: the cache took more than 0.01 minutes", "Failed to extract cache", "without"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hashed_keys_and_plain_ones_find_each_other() {
    let story = story(
        "
stages: [one, two, three]
plain: {stage: one, cache: {key: plain, paths: [a]}, script: [echo plain > a]}
hashed:
  stage: one
  variables: {FF_HASH_CACHE_KEYS: 'true', KEY: ../odd//key}
  cache: {key: $KEY, paths: [b]}
  script: [echo hashed > b]
finds-plain:
  stage: two
  variables: {FF_HASH_CACHE_KEYS: 'true'}
  cache: {key: plain, paths: [a]}
  script: [cat a]
finds-hashed:
  stage: two
  variables: {KEY: ../odd//key}
  cache: {key: $KEY, paths: [b], policy: pull}
  script: [cat b]
",
    )
    .await;
    let run = story.run();
    in_time(run.finished()).await;
    let jobs = run.jobs().iter().map(|job| (job.name(), Ended::of(job))).collect::<std::collections::BTreeMap<_, _>>();
    let keys = story.sandbox.s3.keys("cache");
    story.end().await;

    jobs.values().for_each(|job| {
        job.passed();
    });
    jobs["hashed"].says(&["Creating cache ../odd//key-protected...", "Created cache"]);
    jobs["hashed"].never_says(&["sanitized"]);
    jobs["finds-plain"].says(&[
        "Checking cache for plain-protected...",
        "Successfully extracted cache",
        "Created cache",
    ]);
    jobs["finds-hashed"].says(&["Checking cache for odd/key-protected...", "Successfully extracted cache"]);
    let hash = |key: &str| {
        use sha2::Digest;
        let hash = hex::encode(sha2::Sha256::digest(key));
        format!("{}/{hash}", &hash[..2])
    };
    let mut expected = [hash("../odd//key-protected"), hash("plain-protected"), "plain-protected".to_owned()];
    expected.sort();
    let names: Vec<String> = keys.iter().map(|key| key.split('/').skip(4).collect::<Vec<_>>().join("/")).collect();
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_restore_left_is_removed_where_the_job_wants_it() {
    let jobs = jobs(
        "
.job: &job {cache: {key: none, paths: [.gitlab-ci.yml], policy: pull}}
on: {<<: *job, variables: {FF_CLEAN_UP_FAILED_CACHE_EXTRACT: 'true'}, script: ['! test -e .gitlab-ci.yml']}
off: {<<: *job, script: [test -e .gitlab-ci.yml]}
",
    )
    .await;
    jobs["on"].says(&["Failed to extract cache", "Removing .gitlab-ci.yml"]);
    jobs["off"].never_says(&["Removing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_transfers_change_nothing_and_break_nothing() {
    let jobs = jobs(
        "
stages: [one, two]
variables:
  CACHE_TRANSFER_BUFFER_SIZE: '1'
  CACHE_CHUNK_SIZE: '1'
  CACHE_CONCURRENCY: '1'
  TRANSFER_METER_FREQUENCY: 1ms
  FASTZIP_ARCHIVER_CONCURRENCY: '1'
  FASTZIP_ARCHIVER_BUFFER_SIZE: '1'
  FASTZIP_EXTRACTOR_CONCURRENCY: '1'
  ARCHIVER_STAGING_DIR: /nowhere
  FF_USE_FASTZIP: 'false'
  FF_USE_PARALLEL_CACHE_TRANSFER: 'true'
  FF_USE_PARALLEL_ARTIFACT_TRANSFER: 'true'
save:
  stage: one
  cache: {key: k, paths: [large]}
  artifacts: {paths: [file]}
  script: [head -c 40000000 /dev/urandom > large, cksum < large > file]
load:
  stage: two
  cache: {key: k, paths: [large], policy: pull}
  script: ['test \"$(cksum < large)\" = \"$(cat file)\"']
",
    )
    .await;
    jobs["save"].says(&["Uploading cache.zip to http", "Created cache", "201 Created"]);
    jobs["load"].says(&["Downloading cache from http", "Successfully extracted cache", "... ok "]);
    jobs.values().for_each(|job| {
        job.never_says(&["B/s", "WARNING: invalid"]);
    });
}
