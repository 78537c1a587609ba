// Requests as the AWS SDK for JavaScript makes them: one JSON line {client, operation, params, endpoint} in, one
// {request} or {error} out. Nothing is sent.

import { createInterface } from "node:readline";

const clients = new Map();
class Captured extends Error {}

async function clientOf(name, endpoint) {
  const key = `${name} ${endpoint ?? ""}`;
  if (!clients.has(key)) {
    const module = await import(`@aws-sdk/client-${name}`);
    const Client = Object.entries(module).find(([name]) => name.endsWith("Client") && name !== "__Client")[1];
    const credentials = { accessKeyId: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "secret" };
    const requestHandler = {
      handle: async (request) => {
        throw Object.assign(new Captured(), { request });
      },
    };
    const client = new Client({ region: "us-west-2", credentials, endpoint, requestHandler, maxAttempts: 1, forcePathStyle: endpoint !== undefined });
    clients.set(key, { module, client });
  }
  return clients.get(key);
}

// Bytes and moments have no form in JSON.
function revived(value) {
  if (Array.isArray(value)) return value.map(revived);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$bytes === "string") return Buffer.from(value.$bytes, "base64");
  if (typeof value.$moment === "number") return new Date(value.$moment * 1000);
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, revived(member)]));
}

function query(fields) {
  const escaped = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return Object.entries(fields ?? {}).flatMap(([name, value]) =>
    value === null ? [escaped(name)] : [value].flat().map((one) => `${escaped(name)}=${escaped(one)}`)).join("&");
}

async function bytes(body) {
  if (body === undefined || body === null) return Buffer.alloc(0);
  if (typeof body === "string" || body instanceof Uint8Array) return Buffer.from(body);
  const pieces = [];
  for await (const piece of body) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

async function answer({ client: name, operation, params, endpoint }) {
  try {
    const { module, client } = await clientOf(name, endpoint);
    await client.send(new module[`${operation}Command`](revived(params)));
    return { error: "nothing was sent" };
  } catch (error) {
    if (!(error instanceof Captured)) return { error: `${error.name}: ${error.message}` };
    const { method, protocol, hostname, port, path, query: fields, headers, body } = error.request;
    const rest = query(fields);
    const url = `${protocol}//${hostname}${port ? `:${port}` : ""}${path}${rest ? `?${rest}` : ""}`;
    const sent = await bytes(body);
    return { request: { method, url, headers: Object.entries(headers), body_base64: sent.toString("base64") } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
