// What the Node scripts share: where the simulator is, and a look at its own state.
'use strict';

const assert = require('node:assert/strict');

const HTTP = process.env.SIM_HTTP;
const HTTPS = process.env.SIM_HTTPS;
const PUBSUB = process.env.SIM_PUBSUB;

/** Asks the simulator about itself; no part of the vendor's interface. */
async function control(method, path, body) {
  const answer = await fetch(`${HTTP}/_sim${path}`, { method, body: body === undefined ? undefined : JSON.stringify(body) });
  const json = await answer.json();
  assert.ok(answer.ok, `${method} ${path}: ${JSON.stringify(json)}`);
  return json;
}

/** The simulator's own records, by id. */
async function records(name, deleted = false) {
  const rows = await control('GET', `/records/${name}${deleted ? '?deleted=true' : ''}`);
  return new Map(rows.map((row) => [row.Id, row]));
}

/** Adds an external id to Account. */
function withExternalId() {
  return control('POST', '/schema', { objects: [{ name: 'Account', fields: [
    { name: 'Ext__c', type: 'string', length: 40, externalId: true, unique: true }] }] });
}

/** Runs a script; a failure is said and ends the process. */
function run(script, closing) {
  script().then(() => {
    console.log(closing);
    process.exit(0);
  }, (error) => {
    console.error(error);
    process.exit(1);
  });
}

module.exports = { HTTP, HTTPS, PUBSUB, assert, control, records, run, withExternalId };
