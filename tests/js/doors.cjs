// Loaded before an unmodified SDK. Node's own agent knows neither of these ways: LED_TO_PORT is as if DNS led
// every name to a port of this machine; HTTPS_PROXY is what a proxy agent from a package would do.

const http = require("node:http");
const https = require("node:https");
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
