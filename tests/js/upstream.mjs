// An upstream that talks: HTTP/2 alone, streams of events both ways, and every signature checked by the SDK's own
// signer and codec. Its first line says where it listens; one more for each stream says what became of it.

import { createHash, createHmac } from "node:crypto";
import http2 from "node:http2";
import { readFileSync } from "node:fs";
import { EventStreamCodec } from "@smithy/eventstream-codec";
import { SignatureV4 } from "@smithy/signature-v4";

class Sha256 {
  constructor(secret) {
    this.hash = secret ? createHmac("sha256", secret) : createHash("sha256");
  }
  update(data) {
    this.hash.update(data);
  }
  async digest() {
    return this.hash.digest();
  }
}

const { REAL_KEY, REAL_SECRET, CERTIFICATE, KEY } = process.env;
const codec = new EventStreamCodec((bytes) => Buffer.from(bytes).toString(), (text) => Buffer.from(text));
const text = (value) => ({ type: "string", value });
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const dated = (stamp) => new Date(stamp.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, "$1-$2-$3T$4:$5:$6Z"));

function answer(number) {
  const headers = { ":message-type": text("event"), ":event-type": text("TranscriptEvent"), ":content-type": text("application/json") };
  const body = { Transcript: { Results: [{ ResultId: String(number) }] } };
  return codec.encode({ headers, body: Buffer.from(JSON.stringify(body)) });
}

async function verified(headers) {
  const [, scope, names, signature] = headers.authorization.match(/Credential=(\S+), SignedHeaders=(\S+), Signature=(\S+)$/);
  const [key, , region, service] = scope.split("/");
  const signer = new SignatureV4({ credentials: { accessKeyId: REAL_KEY, secretAccessKey: REAL_SECRET }, region, service, sha256: Sha256, applyChecksum: false });
  const known = { ...headers, host: headers[":authority"] };
  const signed = Object.fromEntries(names.split(";").map((name) => [name, known[name]]));
  const [path] = headers[":path"].split("?");
  const request = { method: headers[":method"], protocol: "https:", hostname: known.host, path, query: {}, headers: signed };
  const again = await signer.sign(request, { signingDate: dated(headers["x-amz-date"]) });
  const isRight = key === REAL_KEY && again.headers.authorization.endsWith(`Signature=${signature}`);
  return isRight ? { signer, prior: signature } : null;
}

async function talk(stream, headers) {
  const mode = headers["x-amzn-transcribe-vocabulary-name"] ?? "";
  const seen = { path: headers[":path"], claim: headers["x-amz-content-sha256"], mode, head: false, events: 0, bytes: 0, closed: false, fault: null, reset: null };
  stream.on("error", () => {});
  stream.on("close", () => say({ ...seen, reset: stream.rstCode }));
  const chain = await verified(headers);
  seen.head = chain !== null;
  if (mode === "refuses") {
    stream.respond({ ":status": 400, "content-type": "application/json", "x-amzn-errortype": "BadRequestException" });
    return stream.end('{"Message":"no"}');
  }
  if (mode !== "late") stream.respond({ ":status": 200, "content-type": "application/vnd.amazon.eventstream", "x-amzn-request-id": "r-1" });
  let buffer = Buffer.alloc(0);
  const write = (bytes) => stream.write(bytes) || new Promise((resolve) => { stream.once("drain", resolve); stream.once("close", resolve); });
  for await (const piece of stream) {
    buffer = Buffer.concat([buffer, piece]);
    while (buffer.length >= 4 && buffer.length >= buffer.readUInt32BE(0)) {
      const message = codec.decode(buffer.subarray(0, buffer.readUInt32BE(0)));
      buffer = buffer.subarray(buffer.readUInt32BE(0));
      const at = message.headers[":date"].value;
      const signed = await chain.signer.sign({ message: { headers: { ":date": { type: "timestamp", value: at } }, body: message.body }, priorSignature: chain.prior }, { signingDate: at });
      chain.prior = signed.signature;
      const theirs = Buffer.from(message.headers[":chunk-signature"].value).toString("hex");
      if (theirs !== chain.prior || seen.closed || Math.abs(Date.now() - at) > 60_000) {
        seen.fault = "a signature is wrong";
        return stream.close(http2.constants.NGHTTP2_PROTOCOL_ERROR);
      }
      if (message.body.length === 0) {
        seen.closed = true;
        continue;
      }
      seen.events += 1;
      seen.bytes += codec.decode(message.body).body.length;
      if (mode === "resets") return stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      if (mode === "goes away") return stream.session.goaway(http2.constants.NGHTTP2_INTERNAL_ERROR) ?? stream.session.destroy();
      if (mode === "late" && seen.events === 1) stream.respond({ ":status": 200, "content-type": "application/vnd.amazon.eventstream" });
      if (mode === "deaf") continue;
      if (mode === "half") { await write(answer(seen.events).subarray(0, 9)); continue; }
      const times = mode === "floods" ? 1000 : 1;
      for (let copy = 0; copy < times && !stream.destroyed; copy += 1) await write(answer(seen.events));
      if (mode === "ends") { await new Promise((resolve) => stream.end(resolve)); return; }
    }
  }
  if (!stream.destroyed) stream.end();
}

const server = CERTIFICATE ? http2.createSecureServer({ cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) }) : http2.createServer();
server.on("stream", (stream, headers) => talk(stream, headers).catch(() => stream.close()));
server.on("sessionError", () => {});
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
