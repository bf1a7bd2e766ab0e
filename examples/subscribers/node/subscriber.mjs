// Reads SSKAI's events with nothing of SSKAI's but its .proto files:
// `npm install && node subscriber.mjs BOOTSTRAP GROUP [TENANT]`. Prints each event once, as one line of JSON.
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { Kafka, logLevel } from "kafkajs";
import protobuf from "protobufjs";

const [bootstrap, group, tenant] = process.argv.slice(2);
const protos = process.env.SSKAI_PROTO ?? join(dirname(fileURLToPath(import.meta.url)), "../../../proto");
const files = readdirSync(join(protos, "sskai/events/v1")).filter((name) => name.endsWith(".proto"));
// One file is one topic; common.proto holds what several of them need.
const topics = files.filter((name) => name !== "common.proto").map((name) => `sskai.${name.slice(0, -6)}.v1`);

const root = new protobuf.Root();
root.resolvePath = (_from, name) => (name.startsWith("google/") ? name : join(protos, name));
root.loadSync(files.map((name) => `sskai/events/v1/${name}`), { keepCase: true });

// A broker that asks who you are: SASL/SCRAM over TLS.
const { KAFKA_USERNAME: username, KAFKA_PASSWORD: password } = process.env;
const security = username ? { ssl: true, sasl: { mechanism: "scram-sha-512", username, password } } : {};

/** The event as a CloudEvent; null: of a type that these .proto files do not know. Throws if it is no event. */
function decode(value, headers) {
  const contentType = headers["content-type"] ?? "application/protobuf";
  if (contentType === "application/cloudevents+json") return JSON.parse(value);
  let type;
  try {
    type = root.lookupType(headers.ce_type);
  } catch {
    return null;
  }
  const message = contentType === "application/json" ? type.fromObject(JSON.parse(value)) : type.decode(value);
  const data = type.toObject(message, { longs: String, enums: String });
  const attributes = Object.entries(headers).filter(([name]) => name.startsWith("ce_"));
  return { ...Object.fromEntries(attributes.map(([name, text]) => [name.slice(3), text])), data };
}

// A program that must not lose this at a restart keeps it where it keeps what it makes of the events.
const seen = new Set();
const kafka = new Kafka({ clientId: group, brokers: bootstrap.split(","), logLevel: logLevel.ERROR, ...security });
const consumer = kafka.consumer({ groupId: group });
await consumer.connect();
await consumer.subscribe({ topics, fromBeginning: true });
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    const headers = Object.fromEntries(
      Object.entries(message.headers).map(([name, text]) => [name.toLowerCase(), String(text)]),
    );
    let event = null;
    try {
      event = decode(message.value, headers);
    } catch (error) {
      console.error(`set aside ${topic}/${partition}@${message.offset}: ${error.message}`);
    }
    const name = event && `${event.source} ${event.id}`;
    if (event && !seen.has(name)) {
      seen.add(name);
      if (!tenant || event.data.tenant_id === tenant) console.log(JSON.stringify(event));
    }
    // After the effect: a crash in between brings the event again.
    await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }]);
  },
});
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => consumer.disconnect().then(() => process.exit(0)));
