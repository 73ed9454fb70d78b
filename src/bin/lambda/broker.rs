//! The broker behind its function URL.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use bytes::Bytes;
use jiff::Timestamp;
use lambda_http::{Body, Error, Request, Response, run, service_fn};
use mayfly::functions::{
    Broker, BrokerAnswer, BrokerKeys, BrokerRequest, FleetReader, NotReady, PackedAgents, Refreshable, RereadKeys,
    SecretReader, not_ready, signing_key,
};
use mayfly::ledger::keys::SigningKey;
use mayfly::ledger::{Ledger, Store};
use tracing::error;

use super::environment::{FLEET, ledger_bucket, packed_agents, stack, variable};

struct Function {
    fleet: FleetReader,
    keys: Arc<Keys>,
    ledger: Ledger,
    s3: aws_sdk_s3::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    packed: PackedAgents,
    uploaded: Arc<Mutex<BTreeSet<String>>>,
}

/// The broker's three secrets.
struct Keys {
    ticket: SecretReader<SigningKey>,
    grant: SecretReader<SigningKey>,
    launch: SecretReader<SigningKey>,
}

pub async fn serve(aws: &SdkConfig) -> Result<(), Error> {
    let secrets = aws_sdk_secretsmanager::Client::new(aws);
    let key = |name| Ok::<_, anyhow::Error>(SecretReader::new(secrets.clone(), variable(name)?, signing_key));
    let s3 = aws_sdk_s3::Client::new(aws);
    let packed = packed_agents();
    let stack = stack()?.with_broker(None, packed.by_architecture());
    let function = Arc::new(Function {
        ledger: Ledger::new(Store::new(s3.clone(), ledger_bucket(&stack)?)),
        fleet: FleetReader::new(s3.clone(), &variable(FLEET)?, stack)?,
        keys: Arc::new(Keys {
            ticket: key("MAYFLY_TICKET_KEY")?,
            grant: key("MAYFLY_GRANT_KEY")?,
            launch: key("MAYFLY_LAUNCH_KEY")?,
        }),
        s3,
        logs: aws_sdk_cloudwatchlogs::Client::new(aws),
        packed,
        uploaded: Arc::default(),
    });
    run(service_fn(move |request| {
        let function = Arc::clone(&function);
        async move { function.handle(request).await }
    }))
    .await
}

impl Function {
    async fn handle(&self, request: Request) -> Result<Response<Body>, Error> {
        let body = Bytes::copy_from_slice(request.body());
        let request = BrokerRequest { method: request.method().clone(), path: request.uri().path().to_owned(), body };
        let answer = self.answer(request).await.unwrap_or_else(|why| {
            error!("{why}");
            not_ready(&why)
        });
        let mut response = Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        Ok(response.body(Body::Text(String::from_utf8_lossy(&answer.body).into_owned()))?)
    }

    async fn answer(&self, request: BrokerRequest) -> Result<BrokerAnswer, NotReady> {
        let (fleet, keys) = tokio::try_join!(self.fleet.get(), self.keys.get())?;
        let keys = Refreshable::new(keys);
        let broker = Broker {
            fleet,
            ledger: self.ledger.clone(),
            s3: self.s3.clone(),
            logs: self.logs.clone(),
            reread_keys: Keys::reread(&self.keys, &keys),
            keys,
            packed: self.packed.clone(),
            uploaded: Arc::clone(&self.uploaded),
            now: Arc::new(Timestamp::now),
        };
        Ok(broker.answer(request).await)
    }
}

impl Keys {
    async fn get(&self) -> Result<BrokerKeys, NotReady> {
        let (ticket, grant, launch) = tokio::try_join!(self.ticket.get(), self.grant.get(), self.launch.get())?;
        Ok(BrokerKeys {
            ticket_key: SigningKey::clone(&ticket),
            grant_key: SigningKey::clone(&grant),
            launch_key: SigningKey::clone(&launch),
        })
    }

    fn reread(keys: &Arc<Keys>, held: &Refreshable<BrokerKeys>) -> RereadKeys {
        let (keys, held) = (Arc::clone(keys), held.clone());
        Arc::new(move || {
            let (keys, held) = (Arc::clone(&keys), held.clone());
            Box::pin(async move {
                tokio::join!(keys.ticket.reread(), keys.grant.reread(), keys.launch.reread());
                if let Ok(read) = keys.get().await {
                    held.replace(read);
                }
            })
        })
    }
}
