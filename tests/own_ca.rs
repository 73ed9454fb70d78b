//! A GitLab whose certificate is of its owner's own CA: the sandbox's GitLab behind TLS.
#![cfg(feature = "sandbox")]

#[path = "stories/support.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod support;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use mayfly::config::Fleet;
use mayfly::gitlab::{RunnerClient, RunnerError, SystemInfo};
use mayfly::sandbox::Settings;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{Story, agent, in_time, trace};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// TLS on a port of its own, in front of a server that is named later.
struct Front {
    url: String,
    ca: String,
    behind: Arc<OnceLock<SocketAddr>>,
}

async fn front() -> Front {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &ca).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let behind: Arc<OnceLock<SocketAddr>> = Arc::default();
    let target = Arc::clone(&behind);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), Arc::clone(&target));
            tokio::spawn(async move {
                let mut tls = acceptor.accept(stream).await.ok()?;
                let mut plain = TcpStream::connect(target.get()?).await.ok()?;
                tokio::io::copy_bidirectional(&mut tls, &mut plain).await.ok()
            });
        }
    });
    Front { url, ca: ca.pem(), behind }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_gitlab_with_its_own_ca_runs_and_gets_the_certificates() {
    let front = front().await;
    let (url, ca) = (front.url.clone(), front.ca.clone());
    let through_tls = move |fleet: &mut Fleet| {
        fleet.runners[0].url = url.parse().expect("a URL");
        fleet.runners[0].tls_ca = Some(ca);
    };
    let settings = Settings { agent: Some(agent()), fleet: Box::new(through_tls), ..Settings::default() };
    let pipeline = "job:\n  script: ['grep -c BEGIN \"$CI_SERVER_TLS_CA_FILE\"', echo done]\n";
    let story = Story::start_with(settings, pipeline).await;
    let address = story.sandbox.gitlab.url().trim_start_matches("http://").parse().expect("an address");
    front.behind.set(address).expect("the first");

    let job = story.run_job().await;
    assert_eq!(job.status(), "success", "{}", trace(&job));
    assert!(trace(&job).contains("done"), "{}", trace(&job));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_ca_such_a_gitlab_is_not_trusted() {
    let front = front().await;
    let url = front.url.parse().expect("a URL");
    let system = SystemInfo { system_id: "r_0123456789ab".into() };
    let client = RunnerClient::new(&url, "glrt-x".into(), system, None).expect("a client");
    let refused = in_time(client.verify()).await.unwrap_err();
    assert!(matches!(refused, RunnerError::Transport(_)), "{refused}");
}
