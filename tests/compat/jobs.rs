//! The keywords that GitLab's server reads and a runner only obeys.

use crate::run::job;

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_in_one_shell() {
    let job = job("
job:
  before_script: [cd /, 'word=kept']
  script: ['echo $word in $PWD']
  after_script: ['echo after: $word in $PWD']
")
    .await;

    job.passed().says(&["$ cd /", "$ echo $word in $PWD", "kept in /", "Running after script...", "after:  in "]);
}
