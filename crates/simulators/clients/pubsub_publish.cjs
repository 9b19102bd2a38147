// salesforce-pubsub-api-client: platform events, published one by one and in batches, and told to whoever subscribes.
'use strict';

const { assert, control, run } = require('./simulator.cjs');
const { connect, inbox, text } = require('./pubsub.cjs');

run(async () => {
  const topic = '/event/Order__e';
  await control('POST', '/platform_events', { Order__e: { Number__c: 'text', Amount__c: 'double', Paid__c: 'boolean' } });
  const client = await connect();
  const told = inbox();
  client.subscribeFromEarliestEvent(topic, told.callback, 10);
  const order = (number, amount) => ({ CreatedDate: Date.now(), CreatedById: '005000000000001AAA', Number__c: { string: number },
    Amount__c: amount === null ? null : { double: amount }, Paid__c: { boolean: amount !== null } });

  const published = await client.publish(topic, order('A', 1.25), 'key-a');
  assert.equal(published.correlationKey, 'key-a');
  const batch = new Promise((resolve, reject) => {
    client.publishBatch(topic, [{ id: 'key-b', payload: order('B', 2) }, { id: 'key-c', payload: order('C', null) }],
      (info, type, data) => { if (type === 'publishResponse') resolve(data.results); else if (type === 'error') reject(data); });
  });
  const results = await batch;
  assert.deepEqual(results.map((result) => result.correlationKey), ['key-b', 'key-c']);

  const own = await control('GET', '/platform_events');
  assert.deepEqual(own.map((event) => [event.replay_id, event.id]),
    [[published.replayId, 'key-a'], [results[0].replayId, 'key-b'], [results[1].replayId, 'key-c']]);
  for (const { replay_id: replayId, fields } of own) {
    const event = await told.event();
    const amount = event.payload.Amount__c;
    assert.deepEqual([event.replayId, text(event.payload.Number__c), amount?.double ?? amount], [replayId, fields.Number__c, fields.Amount__c]);
    assert.equal(Number(event.payload.CreatedDate), fields.CreatedDate);
  }
  assert.deepEqual(own.map((event) => [event.fields.Number__c, event.fields.Amount__c, event.fields.Paid__c]),
    [['A', 1.25, true], ['B', 2, true], ['C', null, false]]);
}, 'salesforce-pubsub-api-client: publishing agrees');
