//! The broker behind its function URL.

use std::sync::Arc;

use aws_config::SdkConfig;
use bytes::Bytes;
use jiff::Timestamp;
use lambda_http::{Body, Error, Request, Response, run, service_fn};
use mayfly::functions::{Broker, BrokerKeys, BrokerRequest, Refreshable};
use mayfly::ledger::{Ledger, Store};

use super::fleet::fleet;
use super::secrets::SecretStore;
use super::variable;

pub async fn serve(aws: &SdkConfig) -> Result<(), Error> {
    let store = Arc::new(SecretStore::new(aws));
    let fleet = Arc::new(fleet(aws).await?);
    let s3 = aws_sdk_s3::Client::new(aws);
    let broker = Broker {
        ledger: Ledger::new(Store::new(s3.clone(), &fleet.ledger.bucket)),
        fleet,
        s3,
        logs: aws_sdk_cloudwatchlogs::Client::new(aws),
        keys: Refreshable::new(keys(&store).await?),
        now: Arc::new(Timestamp::now),
    };
    store.refreshed();
    run(service_fn(move |request| answer(broker.clone(), Arc::clone(&store), request))).await
}

async fn answer(broker: Broker, store: Arc<SecretStore>, request: Request) -> Result<Response<Body>, Error> {
    if store.is_stale() {
        broker.keys.replace(keys(&store).await?);
        store.refreshed();
    }
    let body = Bytes::copy_from_slice(request.body());
    let request = BrokerRequest { method: request.method().clone(), path: request.uri().path().to_owned(), body };
    let answer = broker.answer(request).await;
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Body::Text(String::from_utf8_lossy(&answer.body).into_owned()))?)
}

async fn keys(store: &SecretStore) -> anyhow::Result<BrokerKeys> {
    Ok(BrokerKeys {
        ticket_key: store.text(&variable("MAYFLY_TICKET_KEY")?).await?,
        grant_key: store.text(&variable("MAYFLY_GRANT_KEY")?).await?,
        launch_key: store.text(&variable("MAYFLY_LAUNCH_KEY")?).await?,
    })
}
