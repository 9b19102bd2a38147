// What the scripts of salesforce-pubsub-api-client share: a client, and what its subscriptions say.
'use strict';

const PubSubApiClient = require('salesforce-pubsub-api-client').default ?? require('salesforce-pubsub-api-client');
const { HTTPS, PUBSUB, assert, control } = require('./simulator.cjs');

const quiet = { debug() {}, info() {}, warn: console.warn, error: console.error };

async function connect() {
  const session = await control('POST', '/session');
  const client = new PubSubApiClient({
    authType: 'user-supplied', accessToken: session.access_token, instanceUrl: HTTPS, organizationId: session.org_id,
    pubSubEndpoint: PUBSUB, rejectUnauthorizedSsl: false,
  }, quiet);
  await client.connect();
  return client;
}

/** Calls back with everything that a subscription says; hands it out in order. */
function inbox() {
  const said = [];
  const waiting = [];
  const callback = (subscription, type, data) => {
    if (type === 'event' || type === 'error' || type === 'end') {
      const entry = { type, data };
      waiting.length ? waiting.shift()(entry) : said.push(entry);
    }
  };
  const next = () => new Promise((resolve) => { said.length ? resolve(said.shift()) : waiting.push(resolve); });
  const event = async () => {
    const entry = await next();
    assert.equal(entry.type, 'event', `${entry.type}: ${entry.data}`);
    return entry.data;
  };
  return { callback, next, event };
}

const person = (action) => control('POST', '/person', action);
const text = (field) => (field && typeof field === 'object' ? field.string : field);

module.exports = { connect, inbox, person, text };
