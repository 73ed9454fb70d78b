// The webhook in JavaScript, for comparison: the same check of the sender, the same secret, the same message. It speaks
// to Lambda's runtime API and to AWS by hand, without an SDK, because that starts fastest.

import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import http from "node:http";
import https from "node:https";

const { env } = process;
const TOLERANCE = 300;
const FRESH_FOR = 300_000;
const agents = { "http:": new http.Agent({ keepAlive: true }), "https:": new https.Agent({ keepAlive: true }) };

function request(url, { method = "GET", headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const client = url.protocol === "https:" ? https : http;
    const sent = client.request(url, { method, headers, agent: agents[url.protocol] }, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("error", reject);
      answer.on("end", () => {
        resolve({ status: answer.statusCode, headers: answer.headers, text: Buffer.concat(pieces).toString() });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const hmac = (key, text) => createHmac("sha256", key).update(text).digest();

// Signature Version 4 of a POST to `/`.
function sign(url, service, target, body) {
  const date = new Date().toISOString().replace(/[-:]|\.\d{3}/g, "");
  const headers = {
    "content-type": `application/x-amz-json-1.${service === "sqs" ? 0 : 1}`,
    host: url.host,
    "x-amz-date": date,
    "x-amz-target": target,
  };
  if (env.AWS_SESSION_TOKEN) headers["x-amz-security-token"] = env.AWS_SESSION_TOKEN;
  const names = Object.keys(headers).sort();
  const lines = names.map((name) => `${name}:${headers[name]}\n`).join("");
  const canonical = `POST\n/\n\n${lines}\n${names.join(";")}\n${sha256(body)}`;
  const scope = `${date.slice(0, 8)}/${env.AWS_REGION}/${service}/aws4_request`;
  const parts = [date.slice(0, 8), env.AWS_REGION, service, "aws4_request"];
  const key = parts.reduce((key, part) => hmac(key, part), `AWS4${env.AWS_SECRET_ACCESS_KEY}`);
  const signature = hmac(key, `AWS4-HMAC-SHA256\n${date}\n${scope}\n${sha256(canonical)}`).toString("hex");
  const credential = `Credential=${env.AWS_ACCESS_KEY_ID}/${scope}`;
  headers.authorization = `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
  return headers;
}

async function aws(service, endpoint, target, input) {
  const url = new URL(endpoint ?? `https://${service}.${env.AWS_REGION}.amazonaws.com`);
  const body = JSON.stringify(input);
  const answer = await request(url, { method: "POST", headers: sign(url, service, target, body), body });
  if (answer.status !== 200) throw new Error(`${target}: ${answer.status} ${answer.text}`);
  return JSON.parse(answer.text);
}

let secrets;
let readAt = 0;
async function readSecrets() {
  const input = { SecretId: env.MAYFLY_WEBHOOK_SECRET };
  const endpoint = env.AWS_ENDPOINT_URL_SECRETS_MANAGER;
  const answer = await aws("secretsmanager", endpoint, "secretsmanager.GetSecretValue", input);
  secrets = JSON.parse(answer.SecretString);
  readAt = Date.now();
}

function same(ours, theirs) {
  return timingSafeEqual(createHash("sha256").update(ours).digest(), createHash("sha256").update(theirs).digest());
}

function isGenuine(headers, body) {
  if (headers["webhook-signature"] && secrets.signing_tokens.length > 0) {
    const [id, sent] = [headers["webhook-id"], headers["webhook-timestamp"]];
    if (Math.abs(Date.now() / 1000 - Number(sent)) > TOLERANCE) return false;
    const signatures = headers["webhook-signature"].split(" ").filter((text) => text.startsWith("v1,"));
    return secrets.signing_tokens.some((token) => {
      const key = Buffer.from(token.slice("whsec_".length), "base64");
      const right = createHmac("sha256", key).update(`${id}.${sent}.`).update(body).digest("base64");
      return signatures.some((signature) => same(right, signature.slice("v1,".length)));
    });
  }
  const token = headers["x-gitlab-token"];
  return token !== undefined && secrets.secret_tokens.some((ours) => same(ours, token));
}

function knock(headers, body) {
  const { object_kind: kind, build_id: job, build_status: status } = JSON.parse(body);
  if (kind !== "build" || status !== "pending") return undefined;
  return { event: "knock", instance: headers["x-gitlab-instance"], job };
}

async function answer(event) {
  if (Date.now() - readAt > FRESH_FOR) await readSecrets();
  const body = event.isBase64Encoded ? Buffer.from(event.body, "base64") : Buffer.from(event.body ?? "");
  if (!isGenuine(event.headers, body)) return { statusCode: 401, body: "not genuine" };
  const message = knock(event.headers, body);
  if (message) {
    const input = { QueueUrl: env.MAYFLY_QUEUE_URL, MessageBody: JSON.stringify(message) };
    await aws("sqs", env.AWS_ENDPOINT_URL_SQS, "AmazonSQS.SendMessage", input);
  }
  return { statusCode: 200, body: "heard" };
}

const runtime = `http://${env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;
for (;;) {
  const next = await request(new URL(`${runtime}/next`));
  const id = next.headers["lambda-runtime-aws-request-id"];
  try {
    const body = JSON.stringify(await answer(JSON.parse(next.text)));
    await request(new URL(`${runtime}/${id}/response`), { method: "POST", body });
  } catch (error) {
    const body = JSON.stringify({ errorType: error.name, errorMessage: error.message });
    await request(new URL(`${runtime}/${id}/error`), { method: "POST", body });
  }
}
