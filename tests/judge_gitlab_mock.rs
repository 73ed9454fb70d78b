//! A server that others wrote, the crate `gitlab-runner-mock`, gives a job to our clients and judges what they send.

use bytes::Bytes;
use gitlab_runner_mock::{GitlabRunnerMock, MockJobState};
use mayfly::gitlab::{Claimed, Job, JobClient, Outcome, RunnerClient, Sender, SystemInfo, TraceError, http_client};
use secrecy::SecretString;

#[tokio::test]
async fn the_mock_serves_a_job_to_our_clients() {
    let mock = GitlabRunnerMock::start().await;
    let queued = mock.add_dummy_job("judged".into());
    let system = SystemInfo { system_id: "r_0123456789ab".into() };
    let runner =
        RunnerClient::new(&mock.uri(), SecretString::from(mock.runner_token()), system, None).expect("a client");

    let Claimed::Job(body) = runner.claim().await.expect("an answer") else { panic!("no job") };
    let job = Job::read(&body).expect("the claim is read");
    assert_eq!((job.id, job.info.name.as_str()), (queued.id(), "judged"));
    assert_eq!(job.unread, []);
    assert_eq!(runner.claim().await.expect("an answer"), Claimed::Nothing);

    let client = JobClient::new(http_client(Sender::Helper).expect("a client"), &mock.uri(), job.id, job.token);
    let answer = client.append_trace(0, Bytes::from_static(b"hello "), false).await.expect("it is taken");
    assert_eq!(answer.stored, 6);
    let gap = client.append_trace(9, Bytes::from_static(b"late"), false).await;
    assert!(matches!(gap, Err(TraceError::Mismatch { .. })), "{gap:?}");
    client.append_trace(6, Bytes::from_static(b"judge"), false).await.expect("it is taken");
    let text = b"hello judge";
    let answer = client.finish(&Outcome::Success, crc32fast::hash(text), text.len() as u64).await;
    assert!(answer.expect("it is taken").done);

    let job = mock.get_job(job.id).expect("it is there");
    assert_eq!((job.state(), job.log()), (MockJobState::Success, text.to_vec()));
}
