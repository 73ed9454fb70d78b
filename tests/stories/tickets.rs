//! Tickets in the wrong hands: whoever may describe tasks can read them.

use mayfly::ledger::keys::proof;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::{Gate, Story, in_time, trace};

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_nothing_for_a_stranger_nor_a_second_time() {
    let gate = Gate::new();
    let story = Story::start(&format!("build:\n  script: [echo begun, {}]\n", gate.wait())).await;
    let job = story.run().jobs().remove(0);
    in_time(job.traced("begun")).await;
    let ticket = ticket(&story.sandbox.ecs.tasks()[0].json);
    let nonce = "n".repeat(32);

    let wrong_key = proof(&SecretString::from("guess"), &ticket, &nonce);
    let stranger = open(&story, &json!({"ticket": ticket, "nonce": nonce, "proof": wrong_key})).await;
    assert_eq!(stranger.0, 403, "{}", stranger.1);
    assert!(stranger.1.contains("launch key"), "{}", stranger.1);

    let right_key = proof(&SecretString::from(story.sandbox.launch_key()), &ticket, &nonce);
    let second = open(&story, &json!({"ticket": ticket, "nonce": nonce, "proof": right_key})).await;
    assert_eq!(second.0, 403, "{}", second.1);
    assert!(second.1.contains("opened before"), "{}", second.1);

    let forged = open(&story, &json!({"ticket": "e30.AAAA", "nonce": nonce, "proof": right_key})).await;
    assert_eq!(forged.0, 403, "{}", forged.1);
    let rubbish = open(&story, &json!(["rubbish"])).await;
    assert_eq!(rubbish.0, 400, "{}", rubbish.1);

    gate.open();
    in_time(job.finished()).await;
    assert_eq!(job.status(), "success", "{}", trace(&job));
    story.end().await;
}

async fn open(story: &Story, body: &Value) -> (u16, String) {
    let url = format!("{}/open", story.sandbox.deployment.broker_url());
    let response = reqwest::Client::new().post(url).json(body).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("a text"))
}

fn ticket(task: &Value) -> String {
    let containers = task["overrides"]["containerOverrides"].as_array().expect("overrides");
    let environment = containers.iter().flat_map(|c| c["environment"].as_array().cloned().unwrap_or_default());
    let ticket = environment.into_iter().find(|pair| pair["name"] == "MAYFLY_TICKET").expect("a ticket");
    ticket["value"].as_str().expect("a text").to_owned()
}
