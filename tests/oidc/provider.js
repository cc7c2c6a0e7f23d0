// A provider of OpenID Connect whose one user is in at once. It prints its port when it is ready and ends with its
// standard input. A line on standard input is an order: `rotate` signs by another key from then on.
//
// Usage: node provider.js REDIRECT_URI
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const [redirectUri] = process.argv.slice(2);

const server = createServer((request, response) => answer(request, response));
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const { port } = server.address();
const issuer = `http://127.0.0.1:${port}`;

let answer = await provider('RS256');

async function provider(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(privateKey)), alg, use: 'sig' };
  const provider = new Provider(issuer, {
    jwks: { keys: [jwk] },
    clients: [
      {
        client_id: 'apex',
        client_secret: 'a secret: with/odd+characters=',
        redirect_uris: [redirectUri],
        id_token_signed_response_alg: alg,
      },
    ],
    cookies: { keys: ['not a secret, since nothing here is'] },
    features: { devInteractions: { enabled: false } },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    pkce: { required: () => true },
    ttl: { Session: 600, Interaction: 600, Grant: 600, IdToken: 600, AccessToken: 600 },
  });
  const handle = provider.callback();
  return async (request, response) => {
    if (!request.url.startsWith('/interaction/')) return handle(request, response);
    const grant = new provider.Grant({ accountId: 'ada', clientId: 'apex' });
    grant.addOIDCScope('openid');
    const result = { login: { accountId: 'ada' }, consent: { grantId: await grant.save() } };
    return provider.interactionFinished(request, response, result);
  };
}

const orders = createInterface({ input: process.stdin });
orders.on('line', async (order) => {
  if (order === 'rotate') {
    answer = await provider('ES256');
    console.log('rotated');
  }
});
orders.on('close', () => process.exit(0));
console.log(port);
