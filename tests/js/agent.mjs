// An agent with the unmodified AWS SDK for JavaScript: runs one task and prints what came of it as
// one line of JSON. A call that AWS (or countersign) refuses becomes {error, message, status}.

import { Readable } from "node:stream";
import { CreateAccessKeyCommand, CreateUserCommand, IAMClient } from "@aws-sdk/client-iam";
import { StartStreamTranscriptionCommand, TranscribeStreamingClient } from "@aws-sdk/client-transcribe-streaming";
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";

const tasks = {
  // A body that streams is sent in chunks with its checksum in a trailer; one in memory has it in a field.
  async objects(bucket) {
    const s3 = new S3Client({});
    const sent = {};
    s3.middlewareStack.add(
      (next) => async (args) => {
        const { headers } = args.request;
        sent[headers["x-amz-content-sha256"]] = Object.keys(headers).filter((name) => /^x-amz-(checksum|trailer)/.test(name));
        return next(args);
      },
      { step: "finalizeRequest", priority: "low" },
    );
    await s3.send(new CreateBucketCommand({ Bucket: bucket }));
    const text = "büdget ".repeat(40_000);
    const bytes = Buffer.from(text);
    const pieces = () => Readable.from((function* () { for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536); })());
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: "a b/ü+~c", Body: pieces(), ContentLength: bytes.length }));
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: "small", Body: "small" }));
    const read = async (key) => (await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }))).Body.transformToString();
    return { large: (await read("a b/ü+~c")) === text, small: await read("small"), chunked: sent["STREAMING-UNSIGNED-PAYLOAD-TRAILER"] ?? null };
  },
  // What an agent does all day, without anything that differs from run to run.
  async tour(name) {
    const [s3, iam] = [new S3Client({}), new IAMClient({})];
    await s3.send(new CreateBucketCommand({ Bucket: name }));
    await s3.send(new PutObjectCommand({ Bucket: name, Key: "a b/ü+~c", Body: "büdget" }));
    const read = await s3.send(new GetObjectCommand({ Bucket: name, Key: "a b/ü+~c" }));
    const user = await iam.send(new CreateUserCommand({ UserName: name }));
    const missing = await s3.send(new GetObjectCommand({ Bucket: name, Key: "none" })).catch((error) => [error.name, error.$metadata.httpStatusCode]);
    return [await read.Body.transformToString(), read.ETag, user.User.Arn, missing];
  },
  async user(name) {
    return (await new IAMClient({}).send(new CreateUserCommand({ UserName: name }))).User.UserName;
  },
  async key(name) {
    return (await new IAMClient({}).send(new CreateAccessKeyCommand({ UserName: name }))).AccessKey.Status;
  },
  // Says the next piece only once the one before was answered: both directions of one stream are needed for that.
  async talk(argument) {
    const { mode, events = 3, size = 3200, waits = true } = JSON.parse(argument);
    let [heard, done] = [0, false];
    let wake = () => {};
    const speech = async function* () {
      for (let said = 0; said < events && !done; said += 1) {
        yield { AudioEvent: { AudioChunk: Buffer.alloc(size, said) } };
        while (waits && heard <= said && !done) await new Promise((resolve) => { wake = resolve; });
      }
    };
    const input = { LanguageCode: "en-US", MediaEncoding: "pcm", MediaSampleRateHertz: 16000, VocabularyName: mode };
    const client = new TranscribeStreamingClient({ maxAttempts: 1 });
    try {
      const answer = await client.send(new StartStreamTranscriptionCommand({ ...input, AudioStream: speech() }));
      const results = [];
      for await (const event of answer.TranscriptResultStream) {
        heard += 1;
        results.push(Number(event.TranscriptEvent.Transcript.Results[0].ResultId));
        wake();
      }
      return { results: results.length > 10 ? results.length : results, language: answer.LanguageCode ?? null };
    } catch (error) {
      return { error: error.name, message: error.message, status: error.$metadata?.httpStatusCode ?? null, heard };
    } finally {
      done = true;
      wake();
      client.destroy();
    }
  },
};

const [task, argument] = process.argv.slice(2);
let result;
try {
  result = await tasks[task](argument);
} catch (error) {
  result = { error: error.name, message: error.message, status: error.$metadata?.httpStatusCode ?? null };
}
console.log(JSON.stringify(result));
