// jsforce: change events by CometD, from the earliest on and as they come.
'use strict';

const jsforce = require('jsforce');
const { HTTP, assert, control, run } = require('./simulator.cjs');

run(async () => {
  const session = await control('POST', '/session');
  const connection = new jsforce.Connection({ instanceUrl: HTTP, accessToken: session.access_token, version: '65.0', callOptions: { client: 'agreeing' } });
  const channel = '/data/AccountChangeEvent';
  const made = await connection.sobject('Account').create({ Name: 'Acme', BillingCity: 'Paris' });

  const events = [];
  const waiting = [];
  const next = () => new Promise((resolve) => { events.length ? resolve(events.shift()) : waiting.push(resolve); });
  const { StreamingExtension } = require('jsforce/lib/api/streaming');
  const client = connection.streaming.createClient([new StreamingExtension.Replay(channel, -2)]);
  const subscription = client.subscribe(channel, (event) => { waiting.length ? waiting.shift()(event) : events.push(event); });
  await subscription;

  const created = await next();
  assert.deepEqual([created.payload.ChangeEventHeader.changeType, created.payload.Name, created.payload.BillingAddress.City, created.payload.ChangeEventHeader.recordIds],
    ['CREATE', 'Acme', 'Paris', [made.id]]);
  assert.equal(created.payload.ChangeEventHeader.changeOrigin, 'com/salesforce/api/rest/65.0;client=agreeing');
  await control('POST', '/person', { do: 'update', object: 'Account', id: made.id, fields: { Phone: '1', BillingCity: null } });
  const updated = await next();
  assert.deepEqual(updated.payload.ChangeEventHeader.changedFields.sort(), ['BillingAddress', 'LastModifiedById', 'LastModifiedDate', 'Phone']);
  assert.deepEqual(updated.payload.ChangeEventHeader.nulledFields, ['BillingAddress']);
  assert.ok(updated.event.replayId > created.event.replayId);
  await connection.sobject('Account').destroy(made.id);
  assert.equal((await next()).payload.ChangeEventHeader.changeType, 'DELETE');
  client.disconnect();
}, 'jsforce: streaming agrees');
