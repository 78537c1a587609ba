// Loaded before an unmodified SDK. Node's own agent knows neither of these ways: LED_TO_PORT is as if DNS led
// every name to a port of this machine; HTTPS_PROXY is what a proxy agent from a package would do.

const http = require("node:http");
const http2 = require("node:http2");
const https = require("node:https");
const { Duplex } = require("node:stream");
const tls = require("node:tls");

const direct = https.Agent.prototype.createConnection;
const { HTTPS_PROXY, LED_TO_PORT } = process.env;

if (LED_TO_PORT) {
  https.Agent.prototype.createConnection = function (options, done) {
    return direct.call(this, { ...options, host: "127.0.0.1", port: Number(LED_TO_PORT) }, done);
  };
} else if (HTTPS_PROXY) {
  const proxy = new URL(HTTPS_PROXY);
  https.Agent.prototype.createConnection = function (options, done) {
    const target = `${options.host}:${options.port}`;
    const headers = { host: target, "proxy-authorization": `Basic ${Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64")}` };
    const request = http.request({ host: proxy.hostname, port: proxy.port, method: "CONNECT", path: target, headers });
    request.once("error", done);
    request.once("connect", (response, socket) => {
      if (response.statusCode !== 200) return done(new Error(`the proxy answered ${response.statusCode}`));
      done(null, tls.connect({ ...options, socket }));
    });
    request.end();
  };
}

// The same ways for HTTP/2.
const open = http2.connect;
http2.connect = function (authority, options, done) {
  const { hostname, port } = new URL(authority);
  if (!LED_TO_PORT && !HTTPS_PROXY) return open.call(this, authority, options, done);
  const secure = { servername: hostname, ALPNProtocols: ["h2"] };
  const createConnection = () =>
    LED_TO_PORT ? tls.connect({ ...secure, host: "127.0.0.1", port: Number(LED_TO_PORT) }) : tls.connect({ ...secure, socket: tunnel(`${hostname}:${port || 443}`) });
  return open.call(this, authority, { ...options, createConnection }, done);
};

// A stream that can be written to before the proxy has answered.
function tunnel(target) {
  const proxy = new URL(HTTPS_PROXY);
  const headers = { host: target, "proxy-authorization": `Basic ${Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64")}` };
  const request = http.request({ host: proxy.hostname, port: proxy.port, method: "CONNECT", path: target, headers });
  const connected = new Promise((resolve, reject) => {
    request.once("error", reject);
    request.once("connect", (response, socket) => (response.statusCode === 200 ? resolve(socket) : reject(new Error(`the proxy answered ${response.statusCode}`))));
  });
  const duplex = new Duplex({
    read: () => connected.then((socket) => socket.resume()),
    write: (bytes, encoding, done) => connected.then((socket) => socket.write(bytes, done), done),
    final: (done) => connected.then((socket) => socket.end(done), done),
    destroy: (error, done) => connected.then((socket) => socket.destroy(), () => {}).then(() => done(error)),
  });
  connected.then(
    (socket) => {
      socket.on("data", (bytes) => duplex.push(bytes) || socket.pause()).on("end", () => duplex.push(null)).on("error", (error) => duplex.destroy(error));
    },
    (error) => duplex.destroy(error),
  );
  request.end();
  return duplex;
}
