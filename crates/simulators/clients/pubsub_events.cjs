// salesforce-pubsub-api-client: change events by gRPC: flow control, schemas, bitmaps, replay, gaps.
'use strict';

const { assert, control, records, run } = require('./simulator.cjs');
const { connect, inbox, person, text } = require('./pubsub.cjs');

run(async () => {
  const topic = '/data/AccountChangeEvent';
  const client = await connect();
  const { id } = await person({ do: 'create', object: 'Account', fields: { Name: 'Acme', AnnualRevenue: 1000, BillingCity: 'Paris', NumberOfEmployees: 7 } });
  const first = inbox();
  client.subscribeFromEarliestEvent(topic, first.callback, 100);

  // What was created before.
  const created = await first.event();
  const header = created.payload.ChangeEventHeader;
  assert.deepEqual([header.entityName, header.changeType, header.recordIds, header.changedFields], ['Account', 'CREATE', [id], []]);
  const own = (await records('Account')).get(id);
  assert.deepEqual([text(created.payload.Name), created.payload.AnnualRevenue, created.payload.NumberOfEmployees, text(created.payload.BillingAddress.City)],
    [own.Name, own.AnnualRevenue, own.NumberOfEmployees, own.BillingCity]);
  assert.equal(created.payload.CreatedDate, Date.parse(own.CreatedDate.replace('+0000', 'Z')));

  // What changes: only that, nulls named apart, parts of compounds by their place.
  await person({ do: 'update', object: 'Account', id, fields: { AnnualRevenue: null, BillingStreet: 'Rue 1', Phone: '5' } });
  const updated = await first.event();
  assert.deepEqual(updated.payload.ChangeEventHeader.changedFields.sort(),
    ['AnnualRevenue', 'BillingAddress.Street', 'LastModifiedDate', 'Phone']);
  assert.deepEqual(updated.payload.ChangeEventHeader.nulledFields, ['AnnualRevenue']);
  assert.deepEqual([text(updated.payload.Phone), updated.payload.AnnualRevenue, updated.payload.Name, updated.payload.NumberOfEmployees], ['5', null, null, null]);
  await person({ do: 'update', object: 'Account', id, fields: { BillingStreet: null, BillingCity: null } });
  assert.deepEqual((await first.event()).payload.ChangeEventHeader.nulledFields, ['BillingAddress']);

  // The schema changes in mid-stream: the next event has another, which the client fetches.
  await control('POST', '/schema', { objects: [{ name: 'Account', fields: [{ name: 'Tier__c', type: 'picklist', values: ['A', 'B'] }] }] });
  await person({ do: 'update', object: 'Account', id, fields: { Tier__c: 'A' } });
  const tiered = await first.event();
  assert.notEqual(tiered.schemaId, updated.schemaId);
  assert.deepEqual([text(tiered.payload.Tier__c), tiered.payload.ChangeEventHeader.changedFields.includes('Tier__c')], ['A', true]);

  // Gaps, overflows, events that come twice.
  for (const action of ['gap', 'overflow', 'duplicate']) {
    await control('POST', '/faults', { on: { object: 'Account' }, do: action });
    await person({ do: 'update', object: 'Account', id, fields: { Phone: action } });
  }
  const gap = (await first.event()).payload;
  assert.deepEqual([gap.ChangeEventHeader.changeType, gap.ChangeEventHeader.recordIds, gap.Phone], ['GAP_UPDATE', [id], null]);
  const overflow = (await first.event()).payload.ChangeEventHeader;
  assert.deepEqual([overflow.changeType, overflow.recordIds], ['GAP_OVERFLOW', ['000000000000000AAA']]);
  const [once, again] = [await first.event(), await first.event()];
  assert.deepEqual(once.payload, again.payload);

  // A large text is told by what differs; a change of all records names the object alone.
  const lines = (last) => `${'a line of a long text\n'.repeat(60)}${last}`;
  await person({ do: 'update', object: 'Account', id, fields: { Description: lines('old') } });
  assert.deepEqual((await first.event()).payload.ChangeEventHeader.diffFields, []);
  await person({ do: 'update', object: 'Account', id, fields: { Description: lines('new') } });
  const differing = (await first.event()).payload;
  assert.deepEqual(differing.ChangeEventHeader.diffFields, ['Description']);
  assert.ok(text(differing.Description).endsWith('\n-old\n+new'), text(differing.Description));
  await control('POST', '/faults', { on: { object: 'Account' }, do: 'wildcard' });
  await person({ do: 'update', object: 'Account', id, fields: { Phone: 'all' } });
  const all_records = (await first.event()).payload.ChangeEventHeader;
  assert.deepEqual([all_records.changeType, all_records.recordIds], ['UPDATE', ['001*']]);

  // Deleted and back again.
  await person({ do: 'delete', object: 'Account', id });
  assert.equal((await first.event()).payload.ChangeEventHeader.changeType, 'DELETE');
  await person({ do: 'undelete', object: 'Account', id });
  const back = await first.event();
  assert.deepEqual([back.payload.ChangeEventHeader.changeType, text(back.payload.Name)], ['UNDELETE', 'Acme']);

  // A contact's name is a compound; one channel has them all.
  const all = inbox();
  client.subscribeFromReplayId('/data/ChangeEvents', all.callback, 100, back.replayId);
  const contact = await person({ do: 'create', object: 'Contact', fields: { FirstName: 'Ada', LastName: 'Byron', Birthdate: '1815-12-10' } });
  const byron = await all.event();
  assert.deepEqual([text(byron.payload.Name.LastName), byron.payload.Birthdate], ['Byron', Date.parse('1815-12-10')]);
  await person({ do: 'update', object: 'Contact', id: contact.id, fields: { LastName: 'Lovelace' } });
  assert.deepEqual((await all.event()).payload.ChangeEventHeader.changedFields.sort(), ['LastModifiedDate', 'Name.LastName']);

  // No more than was asked for. (A client has one subscription per topic.)
  const few = inbox();
  const other = await connect();
  other.subscribeFromReplayId(topic, few.callback, 2, created.replayId);
  await few.event();
  await few.event();
  // A client that asks for nothing more is left after 70 seconds; one that waits hears a sign of life.
  const signs = new Promise((resolve) => {
    client.subscribe('/data/LeadChangeEvent', (subscription, type) => { if (type === 'grpcKeepAlive') resolve(); }, 10);
  });
  await control('POST', '/clock', { advance_ms: 71000 });
  assert.equal((await few.next()).type, 'end');
  let heard = false;
  signs.then(() => { heard = true; });
  while (!heard) await control('POST', '/clock', { advance_ms: 90000 });
  const journal = await control('GET', '/journal');
  assert.ok(journal.some((entry) => entry.transport === 'grpc' && entry.method === 'GetSchema'));

  // Three days later the old replay id is no longer known.
  await control('POST', '/clock', { advance_ms: 73 * 3600000 });
  await person({ do: 'update', object: 'Account', id, fields: { Phone: 'late' } });
  const later = await connect();
  const stale = inbox();
  later.subscribeFromReplayId(topic, stale.callback, 10, created.replayId);
  const refused = await stale.next();
  assert.equal(refused.type, 'error');
  assert.match(String(refused.data), /Replay ID validation failed/);
}, 'salesforce-pubsub-api-client: events agree');
