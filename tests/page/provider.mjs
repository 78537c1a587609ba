// An OpenID provider of the tests: npm's oidc-provider with its own sign-in forms, whose user is whatever is typed as
// login. Says where it listens; signs any claims it is told to (POST /test/sign), as a provider gone wrong would.

import { createHmac, createPublicKey } from 'node:crypto';
import { createServer } from 'node:http';
import * as jose from 'jose';
import { Provider } from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const keys = {};
for (const [kid, alg, options] of [
  ['rsa', 'RS256', {}], ['ec', 'ES256', {}], ['ed', 'EdDSA', { crv: 'Ed25519' }],
  ['stranger', 'RS256', {}], ['p384', 'ES384', {}],
]) {
  const pair = await jose.generateKeyPair(alg, { extractable: true, ...options });
  keys[kid] = { alg, privateKey: pair.privateKey, jwk: { ...(await jose.exportJWK(pair.privateKey)), kid, use: 'sig' } };
}
const published = ['rsa', 'ec', 'ed', 'p384'];

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  jwks: { keys: published.map((kid) => keys[kid].jwk) },
  clients: [{
    client_id: 'countersign',
    client_secret: 'secret-of-the-client',
    redirect_uris: settings.redirect_uris ?? ['https://localhost/signin/callback'],
    response_types: ['code'],
    grant_types: ['authorization_code'],
  }],
  cookies: { keys: ['a key of the tests'] },
  claims: { openid: ['sub', 'auth_time'], email: ['email', 'email_verified'] },
  conformIdTokenClaims: false,
  features: { devInteractions: { enabled: true } },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: !id.startsWith('unverified') }),
  }),
  ttl: { Session: 3600, Interaction: 600, Grant: 3600, AuthorizationCode: 60, IdToken: 600, AccessToken: 600 },
});
provider.on('server_error', (_context, error) => console.error(error));

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

async function sign({ kid, header = {}, claims, kind }) {
  if (kind === 'none') return `${encode({ alg: 'none', typ: 'JWT', ...header })}.${encode(claims)}.`;
  if (kind === 'hmac-with-public-key') {
    // What a verifier falls for that takes the algorithm from the token and the key from the set.
    const jwk = await jose.exportJWK(createPublicKey(await jose.exportPKCS8(keys.rsa.privateKey)));
    const pem = createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
    const text = `${encode({ alg: 'HS256', typ: 'JWT', kid: 'rsa', ...header })}.${encode(claims)}`;
    return `${text}.${createHmac('sha256', pem).update(text).digest('base64url')}`;
  }
  const { alg, privateKey } = keys[kid];
  const signed = new jose.SignJWT(claims).setProtectedHeader({ alg, typ: 'JWT', kid, ...header });
  return signed.sign(privateKey, { crit: { 'urn:example:odd': true } });
}

const serve = provider.callback();
server.on('request', async (request, response) => {
  if (request.url !== '/test/sign') return serve(request, response);
  try {
    let text = '';
    for await (const chunk of request) text += chunk;
    response.end(await sign(JSON.parse(text)));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});
console.log(issuer);
process.stdin.on('end', () => process.exit(0)).resume();
